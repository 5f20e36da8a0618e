// SPDX-License-Identifier: MIT
// What programs do on a mount whose server is killed, or falls silent, meanwhile.
#pragma once

namespace remofile::test {

struct Workload {
    const char* name;
    // Run in a new, empty directory of the mount for each round; $AT_SERVER is that directory at the server, $SCRATCH
    // one on a local disk, the same in all rounds. It fails by its exit status.
    const char* script;
};

inline constexpr Workload copies = {"copies, and lines that are appended", R"sh(
[ -f "$SCRATCH/big" ] || head -c 12000000 /dev/urandom >"$SCRATCH/big"
cp "$SCRATCH/big" one
cp one two
cat one two >three
cmp "$SCRATCH/big" two
for i in $(seq 300); do echo "line $i"; done >>lines
seq -f 'line %.0f' 300 | cmp - lines
mv three one
sync -f .
cat "$SCRATCH/big" "$SCRATCH/big" | cmp - "$AT_SERVER/one"
seq -f 'line %.0f' 300 | cmp - "$AT_SERVER/lines"
)sh"};

inline constexpr Workload archives = {"an archive that is unpacked, copied and removed", R"sh(
if [ ! -f "$SCRATCH/tree.tar" ]; then
    mkdir "$SCRATCH/tree"
    for d in $(seq 12); do
        mkdir "$SCRATCH/tree/d$d"
        for f in $(seq 25); do head -c $((f * f * d * 13)) /dev/urandom >"$SCRATCH/tree/d$d/f$f"; done
        ln -s f1 "$SCRATCH/tree/d$d/link"
        ln "$SCRATCH/tree/d$d/f2" "$SCRATCH/tree/d$d/second"
        chmod 640 "$SCRATCH/tree/d$d/f3"
        touch -d '2020-01-02 03:04:05' "$SCRATCH/tree/d$d/f4" "$SCRATCH/tree/d$d/f24"
    done
    tar cf "$SCRATCH/tree.tar" -C "$SCRATCH" tree
fi
tar xf "$SCRATCH/tree.tar"
tar df "$SCRATCH/tree.tar"
tar df "$SCRATCH/tree.tar" -C "$AT_SERVER"
cp -a tree copy
diff -r --no-dereference tree copy
mv copy tree/copy
rm -r tree
sync -f .
[ -z "$(ls -A "$AT_SERVER")" ]
)sh"};

// rsync writes temporary files, opens each again to set its mode, and renames it.
inline constexpr Workload mirrors = {"a tree that is mirrored by rsync, changed and mirrored again", R"sh(
if [ ! -d "$SCRATCH/source" ]; then
    mkdir "$SCRATCH/source"
    for d in $(seq 8); do
        mkdir "$SCRATCH/source/d$d"
        for f in $(seq 20); do head -c $((f * f * d * 17)) /dev/urandom >"$SCRATCH/source/d$d/f$f"; done
        ln -s f1 "$SCRATCH/source/d$d/link"
        ln "$SCRATCH/source/d$d/f2" "$SCRATCH/source/d$d/second"
        chmod 600 "$SCRATCH/source/d$d/f3"
        touch -d '2020-01-02 03:04:05' "$SCRATCH/source/d$d/f4"
    done
fi
rsync -aH "$SCRATCH/source/" mirror
for d in $(seq 8); do
    head -c $((ROUND + d * 1000)) /dev/urandom >"$SCRATCH/source/d$d/f5"
    rm -f "$SCRATCH/source/d$d"/new*
    echo "$ROUND" >"$SCRATCH/source/d$d/new$ROUND"
done
rsync -aH --delete "$SCRATCH/source/" mirror
sync -f .
for there in mirror "$AT_SERVER/mirror"; do
    diff -r --no-dereference "$SCRATCH/source" "$there"
    [ -z "$(rsync -aHni --delete "$SCRATCH/source/" "$there")" ]
done
rm -r mirror
)sh"};

inline constexpr Workload git = {"git clone, commits and checkouts", R"sh(
export HOME="$SCRATCH" GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@example.org
export GIT_COMMITTER_NAME=C GIT_COMMITTER_EMAIL=c@example.org
if [ ! -d "$SCRATCH/origin" ]; then
    git init -q -b main "$SCRATCH/origin"
    for d in $(seq 8); do
        mkdir "$SCRATCH/origin/d$d"
        for f in $(seq 15); do seq $((f * d)) >"$SCRATCH/origin/d$d/f$f"; done
        git -C "$SCRATCH/origin" add .
        git -C "$SCRATCH/origin" commit -q -m "$d"
    done
fi
git clone -q "file://$SCRATCH/origin" clone
cd clone
for i in 1 2 3; do
    echo "$i" >"new$i"
    git rm -q -r "d$i"
    git add -A
    git commit -q -m "$i"
    git checkout -q HEAD~2
    git checkout -q main
done
git gc -q
[ -z "$(git status --porcelain)" ]
git fsck --full --strict
cp -r "$AT_SERVER/clone" "$SCRATCH/looked at"
git -C "$SCRATCH/looked at" fsck --full --strict
[ -z "$(git -C "$SCRATCH/looked at" status --porcelain)" ]
rm -rf "$SCRATCH/looked at"
)sh"};

inline constexpr Workload databases = {"sqlite transactions", R"sh(
for mode in delete wal; do
    sqlite3 $mode "pragma journal_mode=$mode; create table t(i integer primary key, x text);
        create table s(total int); insert into s values(0);" >"$SCRATCH/mode"
    [ "$(cat "$SCRATCH/mode")" = $mode ]
    for i in $(seq 12); do
        sqlite3 -bail -cmd '.timeout 20000' $mode "pragma synchronous=full; begin immediate;
            insert into t(x) select hex(randomblob(400)) from generate_series(1,10);
            update s set total=total+10; commit;"
    done
    for place in . "$AT_SERVER"; do
        [ "$(sqlite3 "$place/$mode" 'pragma integrity_check; select count(*) from t; select total from s;' |
            tr '\n' ' ')" = 'ok 120 120 ' ]
    done
done
)sh"};

inline constexpr Workload builds = {"make -j2", R"sh(
mkdir src
for i in $(seq 12); do echo "int f$i(int x) { return x * $i; }" >src/f$i.c; done
{
    echo '#include <stdio.h>'
    for i in $(seq 12); do echo "int f$i(int);"; done
    echo 'int main(void) { int s = 0;'
    for i in $(seq 12); do echo "s += f$i(1);"; done
    echo 'printf("%d\n", s); return 0; }'
} >src/main.c
cat >Makefile <<'END'
OBJ = $(patsubst src/%.c,%.o,$(wildcard src/*.c))
prog: main.o lib.a
	$(CC) -o $@ main.o lib.a
lib.a: $(filter-out main.o,$(OBJ))
	ar rcs $@ $^
%.o: src/%.c
	$(CC) -MMD -c -o $@ $<
clean:
	rm -f *.o *.d lib.a prog
END
for round in 1 2; do
    make -s -j2
    [ "$(./prog)" = 78 ]
    make -s -q
    make -s clean
    [ "$(ls | tr '\n' ' ')" = 'Makefile src ' ]
done
make -s -j2
cmp prog "$AT_SERVER/prog"
)sh"};

// It holds its sockets, and its log, on the local disk.
inline constexpr Workload postgres = {"PostgreSQL with pgbench", R"sh(
as() { setpriv --reuid=postgres --regid=postgres --init-groups env -i "PATH=$POSTGRES:/usr/bin:/bin" LC_ALL=C "$@"; }
chmod 755 "$SCRATCH" . "$AT_SERVER"
local="$SCRATCH/$ROUND"
mkdir pg "$local"
chown postgres: pg "$local"
chmod 700 pg
as initdb -D pg -A trust >"$local.init"
as pg_ctl -D pg -l "$local/log" -w -t 120 -o "-c listen_addresses= -c unix_socket_directories=$local" start >/dev/null
trap 'as pg_ctl -D pg -m immediate stop >/dev/null 2>&1' EXIT
say() { as psql -h "$local" -At -v ON_ERROR_STOP=1 -c "$1" postgres; }
as pgbench -h "$local" -i -q postgres >"$local.init" 2>&1
as pgbench -h "$local" -c 3 -j 2 -t 60 -n postgres >"$local.bench" 2>&1
grep -q 'number of failed transactions: 0 ' "$local.bench"
[ "$(say 'select count(*) from pgbench_history')" = 180 ]
[ "$(say 'select (select sum(abalance) from pgbench_accounts) = (select sum(bbalance) from pgbench_branches)
    and (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history)')" = t ]
say 'create extension amcheck' >/dev/null
as pg_amcheck -h "$local" postgres
trap - EXIT
as pg_ctl -D pg -m fast -w -t 120 stop >/dev/null
! grep -E 'PANIC|FATAL|ERROR' "$local/log"
)sh"};

}  // namespace remofile::test
