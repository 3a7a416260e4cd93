/* tools/cmd.h: quipu's commands; argv[0] is the command's name. Each returns the exit code of the process. */
#ifndef QUIPU_TOOLS_CMD_H
#define QUIPU_TOOLS_CMD_H

#include "tools/exit_code.h"

enum exit_code cmd_query(int argc, char **argv);
enum exit_code cmd_compact(int argc, char **argv);
enum exit_code cmd_delete(int argc, char **argv);
enum exit_code cmd_tenant(int argc, char **argv);
enum exit_code cmd_verify(int argc, char **argv);
enum exit_code cmd_catalog(int argc, char **argv);
enum exit_code cmd_explain(int argc, char **argv);
enum exit_code cmd_export(int argc, char **argv);
enum exit_code cmd_import(int argc, char **argv);
enum exit_code cmd_backup(int argc, char **argv);
enum exit_code cmd_restore(int argc, char **argv);
enum exit_code cmd_inspect(int argc, char **argv);

#endif
