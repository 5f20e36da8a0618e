# SPDX-License-Identifier: MIT
# Completion for remofs in fish. tests/packaging holds it to remofs --help.

# Mount options, after those that are there already.
function __remofs_options
    set -l before (commandline -ct | string replace -r '^-o' '' | string replace -rf '(.*,)[^,]*$' '$1')
    printf "$before%s\t%s\n" \
        server_key= 'the server\'s public key, or a file that holds it' \
        identity= 'this client\'s secret key' \
        token_file= 'a file that holds the token which the server asks for' \
        insecure 'no encryption, for a server that was told the same' \
        ro 'change nothing' \
        rw 'allow changes' \
        exclusive 'have the server for this mount alone' \
        wait 'wait if another client has the server for itself' \
        hard 'wait for a silent server as long as it takes' \
        soft 'report ETIMEDOUT when a server is silent for the time-out' \
        timeout= 'the time-out of soft' \
        idmap= 'whose the server\'s files are' \
        uid= 'show all files as this user\'s' \
        gid= 'show all files as of this group' \
        umask= 'permission bits not to be shown' \
        fmask= 'the same, of all but directories' \
        dmask= 'the same, of directories' \
        symlinks= 'keep, or contain: refuse those that would leave the mount' \
        allow_other 'let other users in, as permissions allow' \
        allow_root 'let root in, but no other user' \
        default_permissions 'let the kernel check permissions too' \
        sync_names 'wait for the server whenever a name is made, removed or changed' \
        compress 'compress data on its way' \
        congestion= 'what TCP sends with: auto, system or a name' \
        bandwidth_limit= 'bytes a second at most, such as 5M' \
        cache_size= 'memory for cached data' \
        spool= 'keep there what the server lacks when the mount ends' \
        log_format= 'how a line of the log looks: text, json or journald' \
        metrics= 'offer metrics by HTTP at ADDRESS:PORT' \
        fsname= 'what mount shows as the source' \
        debug 'as -d' \
        auto_unmount 'unmount also when remofs is killed' \
        remount 'change ro, nosuid and the like of a mount that is there'
end

function __remofs_servers
    set -l directory $HOME/.config/remofile
    set -q XDG_CONFIG_HOME; and set directory $XDG_CONFIG_HOME/remofile
    test (id -u) -eq 0; and set directory /etc/remofile
    set -q REMOFILE_CONFIG_DIR; and set directory $REMOFILE_CONFIG_DIR
    test -r $directory/hosts.toml
    and sed -n -E 's/^\[host\."?([^]"]*)"?\].*/\1:\//p' $directory/hosts.toml
    test -r $directory/known_servers
    and sed -n -E 's/^([^#[:space:]]+)[[:space:]].*/\1/p' $directory/known_servers | sed 's/:6768$//; s|$|:/|'
end

complete -c remofs -f -a '(__remofs_servers)' -d server
complete -c remofs -f -a '(__fish_complete_directories)'
complete -c remofs -s o -x -a '(__remofs_options)' -d 'mount options'
complete -c remofs -s f -l foreground -d 'stay in the foreground and log to standard error'
complete -c remofs -s d -l debug -d 'the same, with a line for each operation'
complete -c remofs -s h -l help -d 'show help'
complete -c remofs -s V -l version -d 'show the version'
