/* Version of this build: a git description, set by the Makefile for base/version.c alone. */
#pragma once

const char *version_text(void);
