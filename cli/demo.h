/* `pawl demo`: the whole loop in a world of its own, and the programs its evaluation calls. */
#pragma once

/* argv[0] is "demo"; returns the exit code. */
int demo_main(int argc, char **argv);
