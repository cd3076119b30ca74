/* SPDX-License-Identifier: MIT */
#ifndef LT_CLI_INFO_REPORT_H
#define LT_CLI_INFO_REPORT_H

#include "cli/report.h"

void lt_info_print(const char *path, const lt_info *info, bool verbose);
/* tensors: with the list of tensors, names exact. */
cJSON *lt_info_json(const char *path, const lt_info *info, bool tensors);

#endif
