/* SPDX-License-Identifier: MIT */
#ifndef LT_CLI_INFO_REPORT_H
#define LT_CLI_INFO_REPORT_H

#include "cli/report.h"

void lt_info_print(const char *path, const lt_info *info, bool verbose);
/* tensors: with the list of tensors, names exact. */
cJSON *lt_info_json(const char *path, const lt_info *info, bool tensors);

/* Lines below those of lt_info_print; file: NULL for the only one. */
void lt_info_print_hashes(const char *file, const lt_info_hashes *hashes);
void lt_info_json_hashes(cJSON *list, const char *file, const lt_info_hashes *hashes);

#endif
