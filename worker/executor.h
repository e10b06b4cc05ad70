/* Runs one job folder in this process: under the agent (messages on descriptor 3, commands on
 * standard input) or by hand (messages to the log, SIGINT and SIGTERM ask it to stop).
 */
#pragma once

/* Exit codes; the agent reads the message first and these when there was none. */
enum { EXECUTOR_OK = 0, EXECUTOR_FAILED = 1, EXECUTOR_STOPPED = 75 };

int executor_main(const char *dir, int threads);
int stage_main(const char *dir, int threads);
/* A rank that rank 0 started: `dir` is its own folder. */
int rank_main(const char *dir, int threads);
