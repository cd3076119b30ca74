/* SPDX-License-Identifier: MIT */
/* A folder that appears whole or not at all.
 *
 * A new one is filled under the temporary name ".NAME.XXXXXX.lt-part" beside it and
 * renamed by commit. An empty one is filled where it is, and empty again after a failure.
 * One that holds something can only be written into, when overwriting is allowed: each
 * file appears whole (outfile.h), and what else is in the folder stays. */
#ifndef LT_BASE_OUTFOLDER_H
#define LT_BASE_OUTFOLDER_H

#include "loratool/error.h"

#include <stdbool.h>

typedef struct lt_outfolder lt_outfolder;

lt_status lt_outfolder_open(
    lt_outfolder **out, const char *path, bool overwrite, lt_error *err) LT_MUST_USE;

/* The path at which the file called name ("unet/x.bin") is to be made; folders in it are
 * made. Borrowed; lives as long as the folder. NULL on failure. */
const char *lt_outfolder_file(lt_outfolder *folder, const char *name, lt_error *err);

/* The folder that holds something already and is written into, or NULL. */
const char *lt_outfolder_existing(const lt_outfolder *folder);

lt_status lt_outfolder_commit(lt_outfolder *folder, lt_error *err) LT_MUST_USE;
void lt_outfolder_close(lt_outfolder *folder); /* NULL allowed */

#endif
