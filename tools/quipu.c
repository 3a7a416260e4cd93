/* tools/quipu.c: the command line. Each command is in its own file and has its own --help. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "tools/bench.h"
#include "tools/cmd.h"

static const struct {
    const char *name, *doc;
    enum exit_code (*run)(int argc, char **argv);
} commands[] = {
    {"query", "ask a server for the value of an expression", cmd_query},
    {"compact", "merge blocks, in a data folder or by a server", cmd_compact},
    {"delete", "delete series of a server", cmd_delete},
    {"tenant", "delete a tenant of a server", cmd_tenant},
    {"verify", "check everything in a data folder, or a server's blocks", cmd_verify},
    {"catalog", "make a damaged catalog anew: quipu catalog rebuild", cmd_catalog},
    {"explain", "show what a query does, part by part, and what it takes", cmd_explain},
    {"export", "write the samples of series as text", cmd_export},
    {"import", "bring samples in from files, or from a Prometheus", cmd_import},
    {"backup", "copy a server's data, all of one moment", cmd_backup},
    {"restore", "make a data folder of a backup", cmd_restore},
    {"inspect", "show and check a file of the log, or a block", cmd_inspect},
    {"bench", "put load on a server: quipu bench ingest, record, query", cmd_bench},
};

static void help(FILE *out)
{
    fprintf(out, "usage: quipu COMMAND [options]\n\n");
    for (size_t i = 0; i < COUNT_OF(commands); i++)
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].doc);
    fprintf(out, "\nquipu COMMAND --help tells more. quipu --version prints the version.\n");
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    const char *name = argc > 1 ? argv[1] : "";
    if (strcmp(name, "--version") == 0) {
        printf("quipu %s\n", QUIPU_VERSION);
        return EXIT_CODE_OK;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        help(stdout);
        return EXIT_CODE_OK;
    }
    for (size_t i = 0; i < COUNT_OF(commands); i++)
        if (strcmp(name, commands[i].name) == 0) return commands[i].run(argc - 1, argv + 1);
    if (argc > 1) fprintf(stderr, "quipu: unknown command '%s'\n\n", name);
    help(stderr);
    return EXIT_CODE_USAGE;
}
