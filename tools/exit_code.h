/* tools/exit_code.h: what a failure makes of a process. Documented in docs/configuration.md: scripts and service
 * managers may rely on it. */
#ifndef QUIPU_TOOLS_EXIT_CODE_H
#define QUIPU_TOOLS_EXIT_CODE_H

#include "base/err.h"

enum exit_code {
    EXIT_CODE_OK = 0,
    EXIT_CODE_FAILED = 1,  /* anything else */
    EXIT_CODE_USAGE = 2,   /* flags, configuration, a malformed query */
    EXIT_CODE_BUSY = 3,    /* the port is in use or the data folder is locked by another process */
    EXIT_CODE_IO = 4,      /* the operating system refused a file: permissions, a broken disk */
    EXIT_CODE_FULL = 5,    /* no space left */
    EXIT_CODE_CORRUPT = 6, /* bytes that break their format or checksum */
    EXIT_CODE_VERSION = 7, /* data of a newer version */
    EXIT_CODE_MEMORY = 8,
    EXIT_CODE_TIMEOUT = 9
};

static inline enum exit_code exit_code_of(enum err_code code)
{
    static const enum exit_code table[ERR_N] = {
        [ERR_OK] = EXIT_CODE_OK,
        [ERR_INVALID] = EXIT_CODE_USAGE,
        [ERR_CORRUPT] = EXIT_CODE_CORRUPT,
        [ERR_VERSION] = EXIT_CODE_VERSION,
        [ERR_LIMIT] = EXIT_CODE_FAILED,
        [ERR_IO] = EXIT_CODE_IO,
        [ERR_NO_SPACE] = EXIT_CODE_FULL,
        [ERR_NO_MEMORY] = EXIT_CODE_MEMORY,
        [ERR_NOT_FOUND] = EXIT_CODE_IO,
        [ERR_EXISTS] = EXIT_CODE_IO,
        [ERR_BUSY] = EXIT_CODE_BUSY,
        [ERR_TIMEOUT] = EXIT_CODE_TIMEOUT,
        [ERR_CANCELED] = EXIT_CODE_FAILED,
        [ERR_UNSUPPORTED] = EXIT_CODE_FAILED,
        [ERR_EXECUTION] = EXIT_CODE_FAILED,
        [ERR_SHUTDOWN] = EXIT_CODE_FAILED,
        [ERR_RATE] = EXIT_CODE_FAILED,
    };
    return table[code];
}

#endif
