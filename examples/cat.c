/* SPDX-License-Identifier: MIT */
/* Writes a remote file to standard output: cat SOURCE PATH, for example: cat localhost:/ notes/today.txt */
#include <remofile/remofile.h>
#include <stdio.h>

int main(int argc, char** argv) {
    static char buffer[4 << 20];
    remofile_client* client = NULL;
    remofile_file* file = NULL;
    int64_t got = argc == 3 ? remofile_connect(argv[1], NULL, &client) : -1;
    if (got == 0)
        got = remofile_open(client, argv[2], REMOFILE_OPEN_READ, 0, &file);
    for (uint64_t offset = 0; got >= 0 && (got = remofile_pread(file, buffer, sizeof buffer, offset)) > 0;
         offset += (uint64_t)got)
        fwrite(buffer, 1, (size_t)got, stdout);
    if (got < 0)
        fprintf(stderr, "cat: %s\n", argc == 3 ? remofile_error_message() : "usage: cat SOURCE PATH");
    if (file != NULL)
        remofile_close(file);
    remofile_disconnect(client);
    return got < 0 || fflush(stdout) != 0 || ferror(stdout);
}
