# SPDX-License-Identifier: MIT
# Completion for remofile in fish. tests/packaging holds it to remofile --help.

# HOST:/ of the servers whose keys are known; the default port need not be said.
function __remofile_servers
    set -l directory $HOME/.config/remofile
    set -q XDG_CONFIG_HOME; and set directory $XDG_CONFIG_HOME/remofile
    test (id -u) -eq 0; and set directory /etc/remofile
    set -q REMOFILE_CONFIG_DIR; and set directory $REMOFILE_CONFIG_DIR
    test -r $directory/hosts.toml
    and sed -n -E 's/^\[host\."?([^]"]*)"?\].*/\1:\//p' $directory/hosts.toml
    test -r $directory/known_servers
    and sed -n -E 's/^([^#[:space:]]+)[[:space:]].*/\1/p' $directory/known_servers | sed 's/:6768$//; s|$|:/|'
end

# What a server has below the path under the cursor.
function __remofile_remote
    set -l word (commandline -ct | string unescape)
    string match -q '*:/*' -- $word; or return
    set -l directory (string replace -r '[^/]*$' '' -- $word)
    for name in (timeout 3 remofile ls -a -p $directory 2>/dev/null </dev/null)
        echo $directory$name
    end
end

set -l commands ls list stat cat put upload get download sync touch file mkdir folder mv rm remove cp ln chmod df status ping trust generate-keys generate-token
set -l connecting ls list stat cat put upload get download sync touch file mkdir folder mv rm remove cp ln chmod df status ping
set -l transferring put upload get download sync generate-keys generate-token

complete -c remofile -f
complete -c remofile -n "not __fish_seen_subcommand_from $commands" -l version -d 'show the version'
complete -c remofile -s h -l help -d 'show help'
complete -c remofile -n "__fish_seen_subcommand_from $connecting" -a '(__remofile_servers)' -d server
complete -c remofile -n "__fish_seen_subcommand_from $connecting" -a '(__remofile_remote)'
complete -c remofile -n "__fish_seen_subcommand_from $transferring" -F

complete -c remofile -n "not __fish_seen_subcommand_from $commands" -a ls -d 'list directories'
complete -c remofile -n "not __fish_seen_subcommand_from $commands" -a list -d 'list directories'
complete -c remofile -n "not __fish_seen_subcommand_from $commands" -a stat -d 'show what is known of files'
complete -c remofile -n "not __fish_seen_subcommand_from $commands" -a cat -d 'write files to standard output'
complete -c remofile -n "not __fish_seen_subcommand_from $commands" -a put -d 'send files and directories to a server'
complete -c remofile -n "not __fish_seen_subcommand_from $commands" -a upload -d 'send files and directories to a server'
complete -c remofile -n "not __fish_seen_subcommand_from $commands" -a get -d 'fetch files and directories from a server'
complete -c remofile -n "not __fish_seen_subcommand_from $commands" -a download -d 'fetch files and directories from a server'
complete -c remofile -n "not __fish_seen_subcommand_from $commands" -a sync -d 'make a directory here and one of a server alike'
complete -c remofile -n "not __fish_seen_subcommand_from $commands" -a touch -d 'make empty files, or set the times of files to now'
complete -c remofile -n "not __fish_seen_subcommand_from $commands" -a file -d 'make empty files, or set the times of files to now'
complete -c remofile -n "not __fish_seen_subcommand_from $commands" -a mkdir -d 'make directories'
complete -c remofile -n "not __fish_seen_subcommand_from $commands" -a folder -d 'make directories'
complete -c remofile -n "not __fish_seen_subcommand_from $commands" -a mv -d 'rename a file, or move it into a directory of the same server'
complete -c remofile -n "not __fish_seen_subcommand_from $commands" -a rm -d 'remove files'
complete -c remofile -n "not __fish_seen_subcommand_from $commands" -a remove -d 'remove files'
complete -c remofile -n "not __fish_seen_subcommand_from $commands" -a cp -d 'copy files and directories within a server'
complete -c remofile -n "not __fish_seen_subcommand_from $commands" -a ln -d 'give a file of a server a further name, or make a symbolic link'
complete -c remofile -n "not __fish_seen_subcommand_from $commands" -a chmod -d 'change permissions'
complete -c remofile -n "not __fish_seen_subcommand_from $commands" -a df -d 'show how much space there is'
complete -c remofile -n "not __fish_seen_subcommand_from $commands" -a status -d 'show a server\'s clients and counters'
complete -c remofile -n "not __fish_seen_subcommand_from $commands" -a ping -d 'measure round trips to a server'
complete -c remofile -n "not __fish_seen_subcommand_from $commands" -a trust -d 'ask a server for its key, and write it down'
complete -c remofile -n "not __fish_seen_subcommand_from $commands" -a generate-keys -d 'make a key pair'
complete -c remofile -n "not __fish_seen_subcommand_from $commands" -a generate-token -d 'make a token'

complete -c remofile -n "__fish_seen_subcommand_from $connecting" -l server-key -r -F -d 'the server\'s public key, or the file that holds it'
complete -c remofile -n "__fish_seen_subcommand_from $connecting" -l identity -r -F -d 'file of this client\'s secret key'
complete -c remofile -n "__fish_seen_subcommand_from $connecting" -l token-file -r -F -d 'file of the token that the server asks for'
complete -c remofile -n "__fish_seen_subcommand_from $connecting" -l congestion -x -a 'auto system bbr cubic' -d 'what TCP sends with'
complete -c remofile -n "__fish_seen_subcommand_from $connecting" -l insecure -d 'connect without encryption, to a server that was told the same'
complete -c remofile -n "__fish_seen_subcommand_from $connecting" -l wait -d 'wait, at most so long, if another client has the server for itself'

complete -c remofile -n '__fish_seen_subcommand_from ls list' -s a -l all -d 'show names that begin with a dot too'
complete -c remofile -n '__fish_seen_subcommand_from ls list' -s l -l long -d 'show type, permissions, links, uid, gid, size and time too'
complete -c remofile -n '__fish_seen_subcommand_from ls list' -s d -l directory -d 'show directories themselves, not what they hold'
complete -c remofile -n '__fish_seen_subcommand_from ls list' -s p -l slash -d 'put a slash after the names of directories'
complete -c remofile -n '__fish_seen_subcommand_from ls list' -l json -d 'write one JSON object a line'
complete -c remofile -n '__fish_seen_subcommand_from ls list' -s R -l recursive -d 'list what is in directories below too'
complete -c remofile -n '__fish_seen_subcommand_from ls list' -s h -l human-readable -d 'with -l, show sizes as 1.5K, 12M or 3G'
complete -c remofile -n '__fish_seen_subcommand_from ls list' -s t -d 'sort by time of modification, the latest first'
complete -c remofile -n '__fish_seen_subcommand_from ls list' -s S -d 'sort by size, the largest first'
complete -c remofile -n '__fish_seen_subcommand_from ls list' -s r -l reverse -d 'sort the other way round'

complete -c remofile -n '__fish_seen_subcommand_from stat' -l json -d 'write one JSON object a line'

complete -c remofile -n '__fish_seen_subcommand_from put upload' -s a -l archive -d 'keep owner, group, set-id bits and extended attributes too, as far as one may'
complete -c remofile -n '__fish_seen_subcommand_from put upload' -l fsync -d 'have each file on the disk before it gets its name'
complete -c remofile -n '__fish_seen_subcommand_from put upload' -s q -l quiet -d 'say nothing but errors'
complete -c remofile -n '__fish_seen_subcommand_from put upload' -l json -d 'say what was done as one JSON object'
complete -c remofile -n '__fish_seen_subcommand_from put upload' -s z -l compress -d 'compress whatever the link\'s speed'
complete -c remofile -n '__fish_seen_subcommand_from put upload' -l compress-level -x -d 'the same, from 1'
complete -c remofile -n '__fish_seen_subcommand_from put upload' -s f -l force -d 'of a tree, copy also what is there with the same size and time'
complete -c remofile -n '__fish_seen_subcommand_from put upload' -l exclude -x -d 'leave out what matches'
complete -c remofile -n '__fish_seen_subcommand_from put upload' -l include -x -d 'copy what matches, in spite of later rules'
complete -c remofile -n '__fish_seen_subcommand_from put upload' -l exclude-from -r -F -d 'leave out what the lines of a file match'
complete -c remofile -n '__fish_seen_subcommand_from put upload' -l bandwidth-limit -x -d 'bytes a second at most in each direction, such as 5M'
complete -c remofile -n '__fish_seen_subcommand_from put upload' -s n -l dry-run -d 'only say what would be done'
complete -c remofile -n '__fish_seen_subcommand_from put upload' -s v -l verbose -d 'say what is done'
complete -c remofile -n '__fish_seen_subcommand_from put upload' -l log-file -r -F -d 'add what is done, with the time, to the end of this file'

complete -c remofile -n '__fish_seen_subcommand_from get download' -s a -l archive -d 'keep owner, group, set-id bits and extended attributes too, as far as one may'
complete -c remofile -n '__fish_seen_subcommand_from get download' -l fsync -d 'have each file on the disk before it gets its name'
complete -c remofile -n '__fish_seen_subcommand_from get download' -s q -l quiet -d 'say nothing but errors'
complete -c remofile -n '__fish_seen_subcommand_from get download' -l json -d 'say what was done as one JSON object'
complete -c remofile -n '__fish_seen_subcommand_from get download' -s z -l compress -d 'compress whatever the link\'s speed'
complete -c remofile -n '__fish_seen_subcommand_from get download' -l compress-level -x -d 'the same, from 1'
complete -c remofile -n '__fish_seen_subcommand_from get download' -s f -l force -d 'of a tree, copy also what is there with the same size and time'
complete -c remofile -n '__fish_seen_subcommand_from get download' -l exclude -x -d 'leave out what matches'
complete -c remofile -n '__fish_seen_subcommand_from get download' -l include -x -d 'copy what matches, in spite of later rules'
complete -c remofile -n '__fish_seen_subcommand_from get download' -l exclude-from -r -F -d 'leave out what the lines of a file match'
complete -c remofile -n '__fish_seen_subcommand_from get download' -l bandwidth-limit -x -d 'bytes a second at most in each direction, such as 5M'
complete -c remofile -n '__fish_seen_subcommand_from get download' -s n -l dry-run -d 'only say what would be done'
complete -c remofile -n '__fish_seen_subcommand_from get download' -s v -l verbose -d 'say what is done'
complete -c remofile -n '__fish_seen_subcommand_from get download' -l log-file -r -F -d 'add what is done, with the time, to the end of this file'

complete -c remofile -n '__fish_seen_subcommand_from sync' -s a -l archive -d 'keep owner, group, set-id bits and extended attributes too, as far as one may'
complete -c remofile -n '__fish_seen_subcommand_from sync' -l fsync -d 'have each file on the disk before it gets its name'
complete -c remofile -n '__fish_seen_subcommand_from sync' -s q -l quiet -d 'say nothing but errors'
complete -c remofile -n '__fish_seen_subcommand_from sync' -l json -d 'say what was done as one JSON object'
complete -c remofile -n '__fish_seen_subcommand_from sync' -s z -l compress -d 'compress whatever the link\'s speed'
complete -c remofile -n '__fish_seen_subcommand_from sync' -l compress-level -x -d 'the same, from 1'
complete -c remofile -n '__fish_seen_subcommand_from sync' -l both -d 'both ways'
complete -c remofile -n '__fish_seen_subcommand_from sync' -l delete -d 'delete in TO what FROM does not have'
complete -c remofile -n '__fish_seen_subcommand_from sync' -s c -l checksum -d 'compare contents, not times'
complete -c remofile -n '__fish_seen_subcommand_from sync' -l exclude -x -d 'leave out what matches'
complete -c remofile -n '__fish_seen_subcommand_from sync' -l include -x -d 'copy what matches, in spite of later rules'
complete -c remofile -n '__fish_seen_subcommand_from sync' -l exclude-from -r -F -d 'leave out what the lines of a file match'
complete -c remofile -n '__fish_seen_subcommand_from sync' -l bandwidth-limit -x -d 'bytes a second at most in each direction, such as 5M'
complete -c remofile -n '__fish_seen_subcommand_from sync' -s n -l dry-run -d 'only say what would be done'
complete -c remofile -n '__fish_seen_subcommand_from sync' -s v -l verbose -d 'say what is done'
complete -c remofile -n '__fish_seen_subcommand_from sync' -l log-file -r -F -d 'add what is done, with the time, to the end of this file'
complete -c remofile -n '__fish_seen_subcommand_from sync' -l max-delete -x -d 'do nothing if more files and directories than this would be deleted'

complete -c remofile -n '__fish_seen_subcommand_from mkdir folder' -s p -l parents -d 'make what is missing on the way, and accept what is there'

complete -c remofile -n '__fish_seen_subcommand_from mv' -s n -l no-clobber -d 'replace nothing'

complete -c remofile -n '__fish_seen_subcommand_from rm remove' -s r -l recursive -d 'remove directories with all that they hold'
complete -c remofile -n '__fish_seen_subcommand_from rm remove' -s f -l force -d 'accept files that are not there'
complete -c remofile -n '__fish_seen_subcommand_from rm remove' -l partial -d 'in the directories named'
complete -c remofile -n '__fish_seen_subcommand_from rm remove' -s n -l dry-run -d 'only say what would be done'
complete -c remofile -n '__fish_seen_subcommand_from rm remove' -s v -l verbose -d 'say what is done'
complete -c remofile -n '__fish_seen_subcommand_from rm remove' -l log-file -r -F -d 'add what is done, with the time, to the end of this file'

complete -c remofile -n '__fish_seen_subcommand_from ln' -s s -l symbolic -d 'make a symbolic link, which says what stands first'

complete -c remofile -n '__fish_seen_subcommand_from chmod' -s R -l recursive -d 'of directories, change all that they hold too'

complete -c remofile -n '__fish_seen_subcommand_from df' -s h -l human-readable -d 'show sizes as 1.5K, 12M or 3G'
complete -c remofile -n '__fish_seen_subcommand_from df' -l json -d 'write one JSON object a line, with sizes in bytes'

complete -c remofile -n '__fish_seen_subcommand_from cp' -s r -l recursive -d 'copy directories with all that they hold'
complete -c remofile -n '__fish_seen_subcommand_from cp' -s p -l preserve -d 'keep modes, whatever the umask, and times'
complete -c remofile -n '__fish_seen_subcommand_from cp' -s n -l dry-run -d 'only say what would be done'
complete -c remofile -n '__fish_seen_subcommand_from cp' -s v -l verbose -d 'say what is done'
complete -c remofile -n '__fish_seen_subcommand_from cp' -l log-file -r -F -d 'add what is done, with the time, to the end of this file'

complete -c remofile -n '__fish_seen_subcommand_from status' -l json -d 'write JSON, with the counters that are zero too'
complete -c remofile -n '__fish_seen_subcommand_from status' -l watch -d 'show it again and again, with what happens a second'

complete -c remofile -n '__fish_seen_subcommand_from ping' -s c -l count -x -d 'number of round trips'

complete -c remofile -n '__fish_seen_subcommand_from trust' -a '(__fish_print_hostnames)' -d host
complete -c remofile -n '__fish_seen_subcommand_from trust' -l yes -d 'do not ask'
complete -c remofile -n '__fish_seen_subcommand_from trust' -l replace -d 'let the key take the place of another one'

complete -c remofile -n '__fish_seen_subcommand_from generate-keys' -l force -d 'replace an existing file'

complete -c remofile -n '__fish_seen_subcommand_from generate-token' -l force -d 'replace an existing file'
