/* tools/cli.h: flags of quipu's commands, from a table; and numbers as people read them. */
#ifndef QUIPU_TOOLS_CLI_H
#define QUIPU_TOOLS_CLI_H

#include <stdio.h>

#include "base/err.h"

enum cli_kind { CLI_FLAG, CLI_TEXT, CLI_COUNT, CLI_DURATION, CLI_SECTION };

struct cli_option {
    const char
        *name; /* "server": given as --server VALUE or --server=VALUE; CLI_SECTION: a headline */
    enum cli_kind kind;
    void *out;         /* bool *, const char **, uint64_t *, int64_t * (ms) */
    const char *value; /* "URL", for the help */
    const char *doc;
    const char *env; /* variable that gives the default, or NULL */
};

struct cli_command {
    const char *name;  /* "query" */
    const char *usage; /* what follows "usage: quipu " */
    const char *doc;
    const char *examples;
    const struct cli_option *options;
    size_t n_options;
};

/* Takes the options out of argv[1..]; what is left are the arguments, in order. --help prints the help and sets
 * *helped. After "--" nothing is an option. */
MUST_USE enum err_code cli_parse(const struct cli_command *command, int argc, char **argv,
                                 char **args, size_t args_max, size_t *n_args, bool *helped,
                                 struct err *err);
/* Takes every --NAME VALUE out of argv, for an option that may come several times. ERR_INVALID past `max` of them. */
MUST_USE enum err_code cli_take_repeated(int *argc, char **argv, const char *name,
                                         const char **values, size_t max, size_t *n,
                                         struct err *err);
void cli_help(const struct cli_command *command, FILE *out);

/* "12.3M", "4.56k", "789": three digits that matter. Returns buf. */
const char *cli_human(double v, char *buf, size_t size);
/* "1.2 GiB" */
const char *cli_human_bytes(double v, char *buf, size_t size);

/* "now", "now-1h", Unix seconds (with a fraction), or RFC 3339 in UTC (2026-01-02T03:04:05Z). */
MUST_USE enum err_code cli_parse_time(struct str text, int64_t now_ms, int64_t *t_ms,
                                      struct err *err);

/* A line on stderr that is rewritten in place; nothing when stderr is no terminal. */
void cli_progress(const char *fmt, ...) PRINTF_LIKE(1, 2);
void cli_progress_end(void);

#endif
