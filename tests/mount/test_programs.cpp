// SPDX-License-Identifier: MIT
// Real programs at work on the mount and in a local directory: they say the same, and leave the same behind.
#include <sys/stat.h>
#include <unistd.h>

#include <string_view>

#include "harness/mount_process.hpp"
#include "mount/shared_mount.hpp"

using namespace remofile::test;

namespace {

constexpr Milliseconds script_deadline{120'000};

// What makes programs say the same twice.
constexpr std::string_view steady_environment =
    "export LC_ALL=C TZ=UTC HOME=\"$PWD\" SOURCE_DATE_EPOCH=1700000000\n"
    "export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=C GIT_COMMITTER_EMAIL=c@example.org\n"
    "export GIT_AUTHOR_DATE='2023-01-01T00:00:00Z' GIT_COMMITTER_DATE='2023-01-01T00:00:00Z' GIT_CONFIG_NOSYSTEM=1\n";

bool everything_matters(std::string_view) {
    return true;
}

bool have(const std::vector<std::string>& programs) {
    for (const std::string& program : programs) {
        if (!is_installed(program)) {
            WARN("not installed: " << program);
            return false;
        }
    }
    return true;
}

std::string without(std::string text, const std::string& directory) {
    for (std::size_t at = text.find(directory); at != std::string::npos; at = text.find(directory))
        text.replace(at, directory.size(), "HERE");
    return text;
}

// Runs the script in a directory of each kind and compares what it said, how it ended, and the trees it left.
void same_script(const std::string& script,
                 const std::function<bool(std::string_view)>& content_matters = everything_matters) {
    const auto pair = shared_mount().make_pair();
    const std::string whole = std::string(steady_environment) + script;
    const Ended local = run_script(pair.local, whole, script_deadline);
    INFO("local: " << local.to_string());
    REQUIRE(local.exit_status == 0);
    const Ended mounted = run_script(pair.mounted, whole, script_deadline);
    INFO("mount: " << mounted.to_string());
    CHECK(mounted.exit_status == 0);
    CHECK(without(mounted.output, pair.mounted) == without(local.output, pair.local));
    CHECK(without(mounted.errors, pair.mounted) == without(local.errors, pair.local));
    const std::string expected = describe_tree(pair.local, content_matters);
    for (const std::string& tree : {pair.mounted, pair.export_.get()}) {
        const std::string difference = first_difference(expected, describe_tree(tree, content_matters));
        INFO(tree << "\n" << difference);
        CHECK(difference.empty());
    }
}

// A few hundred files of many kinds, made by a script.
constexpr const char* make_tree = R"sh(
mkdir tree
for directory in 1 2 3 5; do
    mkdir -p tree/$directory/sub
    for file in 1 2 3 4 5 6 7; do
        seq 1 $((directory * file * 50)) > tree/$directory/file$file
        chmod $((600 + file)) tree/$directory/file$file
        echo "$directory $file" > "tree/$directory/sub/name with blanks $file"
    done
    ln -s file1 tree/$directory/link
    ln tree/$directory/file2 tree/$directory/hard
done
ln -s missing tree/dangling
mkfifo tree/fifo
truncate -s 5M tree/sparse
printf end >> tree/sparse
touch -d '2001-02-03 04:05:06.789' tree/1/file1 tree/2
chmod 1777 tree/3
: > "tree/-n"
: > "$(printf 'tree/odd\nname\377')"
)sh";

}  // namespace

TEST_CASE("programs: git init, commit, clone, fsck, gc") {
    if (!have({"git"}))
        return;
    same_script(
        R"sh(
git init -q -b main origin
cd origin
for i in 1 2 3 4; do
    mkdir -p d$i
    seq 1 $((i * 500)) > d$i/file
    echo $i >> log
    git add .
    git commit -q -m "commit $i"
done
git mv d1 renamed
git rm -q d2/file
git commit -q -a -m 'rename and remove'
git tag -a -m annotated v1
git checkout -q -b side HEAD~3
echo side > side
git add side
git commit -q -m side
git checkout -q main
git merge -q --no-edit side
git status --short
git fsck --full 2>&1
cd ..
git clone -q origin clone
git clone -q --bare "file://$PWD/origin" bare.git
cd clone
git log --format='%H %s'
echo change >> log
git stash -q
git stash pop -q
git commit -q -a -m change
git push -q origin HEAD:refs/heads/pushed
git gc -q --prune=now
git fsck --full 2>&1
git repack -q -a -d -f
git count-objects
git worktree add -q ../worktree side
git -C ../worktree status --short
git rev-parse HEAD
)sh",
        // What names time, inodes or the place where it was made, and packs, whose bytes depend on threads.
        [](std::string_view path) {
            return !path.ends_with("index") && path.find("/logs") == path.npos && path.find("/pack") == path.npos &&
                   !path.ends_with("config") && !path.ends_with("/packed-refs") && path.find("worktree") == path.npos &&
                   !path.ends_with("ORIG_HEAD") && !path.ends_with("FETCH_HEAD") && !path.ends_with("commit-graph") &&
                   path.find("/objects") == path.npos;
        });
}

TEST_CASE("programs: vim writes with backup and swap file") {
    if (!have({"vim"}))
        return;
    same_script(R"sh(
printf 'one\ntwo\nthree\n' > file
chmod 640 file
ln file hard
ln -s file link
for copy in yes no auto; do
    vim -u NONE -i NONE -n -es -c "set backup writebackup backupcopy=$copy backupext=.$copy" -c 's/^/x/' -c 'w' -c 'q!' file < /dev/null
done
vim -u NONE -i NONE -es -c 'set nocompatible swapfile directory=. updatecount=1' -c '%s/t/T/' -c 'preserve' -c 'call writefile([join(glob(".*.sw?", 0, 1), " ")], "swap")' -c 'wq' link < /dev/null
vim -u NONE -i NONE -es -c 'set undofile undodir=.' -c 'normal Goadded' -c 'wq' file < /dev/null
cat file swap
ls -a | grep -v '\.un~'
)sh",
                [](std::string_view path) { return !path.ends_with(".un~"); });
}

TEST_CASE("programs: cp -a, mv, rm -r") {
    same_script(std::string(make_tree) + R"sh(
cp -a tree copy
diff -r --no-dereference tree/1 copy/1
find copy -type f -printf '%P %s %m %n %TY-%Tm-%Td\n' | sort | head -20
stat -c '%n %y' copy/1/file1 copy/2
cp -r --sparse=always tree/sparse sparse
cp --reflink=auto tree/5/file7 reflinked
mv copy/1 moved
mv copy/2/file1 copy/3/file1
rm -r copy/5
install -D -m 711 tree/5/file1 installed/deep/below/program
)sh");
}

TEST_CASE("programs: cp -a and rsync from local to the mount and back again") {
    if (!have({"rsync"}))
        return;
    const auto pair = shared_mount().make_pair();
    const Ended made = run_script(pair.local, make_tree, script_deadline);
    INFO(made.to_string());
    REQUIRE(made.exit_status == 0);
    const auto same_there = [&](const std::string& script) {
        const Ended end =
            run({.arguments = {"/bin/sh", "-euc", script, "sh", pair.local, pair.mounted}}, script_deadline);
        INFO(script << "\n" << end.to_string());
        CHECK(end.exit_status == 0);
        const std::string tree = describe_tree(pair.local + "/tree");
        for (const std::string& copy : {pair.mounted + "/tree", pair.export_ + "/tree", pair.local + "/back"}) {
            const std::string difference = first_difference(tree, describe_tree(copy));
            INFO(copy << "\n" << difference);
            CHECK(difference.empty());
        }
    };
    same_there("cp -a \"$1/tree\" \"$2\"; cp -a \"$2/tree\" \"$1/back\"");
    same_there("rm -r \"$2/tree\" \"$1/back\"; rsync -aH \"$1/tree\" \"$2\"; rsync -aH \"$2/tree/\" \"$1/back\"");
    // Again with changes: rsync's temporary files and renames, in place, and deletions.
    same_there(
        "echo more >> \"$1/tree/1/file1\"; rm \"$1/tree/2/file2\"; rsync -aH --delete \"$1/tree\" \"$2\"; rsync -aH "
        "--delete \"$2/tree/\" \"$1/back\"");
    same_there(
        "echo more >> \"$1/tree/1/file1\"; rsync -aH --inplace --no-whole-file \"$1/tree\" \"$2\"; rsync -aHc "
        "\"$2/tree/\" \"$1/back\"");
    const Ended idle =
        run({.arguments = {"rsync", "-aHni", "--exclude=sparse", pair.local + "/tree", pair.mounted}}, script_deadline);
    CHECK(idle.output.empty());  // nothing left to do: all times and modes arrived
    CHECK(idle.exit_status == 0);
    same_there(
        "rm -r \"$2/tree\" \"$1/back\"; tar -C \"$1\" -c tree | tar -C \"$2\" -xp; mkdir \"$1/back\"; tar -C "
        "\"$2/tree\" -c . | tar -C \"$1/back\" -xp");
}

TEST_CASE("programs: tar on the mount") {
    if (!have({"tar", "gzip"}))
        return;
    same_script(std::string(make_tree) + R"sh(
tar -c --sort=name --xattrs tree > archive.tar
tar -tf archive.tar | sort
mkdir unpacked
tar -C unpacked -xpf archive.tar
tar -d -C unpacked -f archive.tar
tar -czSf archive.tgz -C unpacked tree/1 tree/sparse
gzip -t archive.tgz
rm -r unpacked/tree/2
tar -rf archive.tar unpacked/tree/1/file1
rm archive.tgz archive.tar
)sh");
}

TEST_CASE("programs: find, du, sed, sort, python and shell writing files") {
    if (!have({"python3"}))
        return;
    same_script(std::string(make_tree) + R"sh(
find tree | LC_ALL=C sort
find tree -newer tree/1/file1 -name 'file*' | sort
du -a --apparent-size -b tree/1 | sort
sed -i 's/1/one/g' tree/1/file1 tree/2/file1
sed -i.orig 's/2/two/g' tree/3/file2
sort -o tree/1/file3 -r tree/1/file3
for i in 1 2 3 4 5 6 7 8 9; do echo $i >> appended; done
cat tree/*/file1 > all
dd if=all of=dd bs=1000 seek=3 conv=notrunc status=none
dd if=all of=dd bs=512 count=7 oflag=append conv=notrunc status=none
split -b 10000 all part.
cat part.* | cmp - all
python3 - <<'END'
import os, mmap, tempfile, shutil, json
with open('p', 'w+b') as f:
    f.write(b'x' * 100000); f.seek(5000); f.write(b'hello'); f.truncate(60000); f.flush(); os.fsync(f.fileno())
    with mmap.mmap(f.fileno(), 0) as m: m[100:105] = b'mmap!'
with tempfile.NamedTemporaryFile(dir='.', delete=False) as t: t.write(b'temporary')
os.replace(t.name, 'replaced')
os.chmod('replaced', 0o644)
shutil.copytree('tree/1', 'copied', symlinks=True)
shutil.copy2('all', 'copied/all')
os.makedirs('a/b/c/d')
json.dump({str(i): i for i in range(1000)}, open('a/b/c/d/json', 'w'))
print(sorted(os.listdir('.')), [e.name for e in sorted(os.scandir('copied'), key=lambda e: e.name) if e.is_file()])
shutil.rmtree('a')
END
mktemp -p . -u > /dev/null
cat p | wc -c
)sh");
}

TEST_CASE("programs: sqlite with rollback journal and with WAL") {
    if (!have({"sqlite3"}))
        return;
    for (const std::string mode : {"delete", "truncate", "persist", "wal"}) {
        same_script("mode=" + mode + R"sh(
sqlite3 db "pragma journal_mode=$mode; create table t(id integer primary key, text); create index i on t(text);" > /dev/null
for i in 1 2 3 4 5 6 7 8 9 10; do
    sqlite3 db "pragma busy_timeout=10000; begin immediate; insert into t(text) select hex(zeroblob(50)) || $i from generate_series(1, 100); commit;" > /dev/null
done
sqlite3 db "begin; delete from t where id % 3 = 0; rollback; begin; update t set text = 'u' where id % 7 = 0; commit; vacuum;"
sqlite3 db "select count(*), sum(length(text)) from t; pragma integrity_check;"
)sh",
                    [](std::string_view path) { return path.find("db") == path.npos; });
    }
}

TEST_CASE("programs: two sqlite processes write to one database at once") {
    if (!have({"sqlite3"}))
        return;
    for (const std::string mode : {"delete", "wal"}) {
        same_script("mode=" + mode + R"sh(
sqlite3 db "pragma journal_mode=$mode; create table t(who, number);" > /dev/null
worker() {
    i=0
    while [ $i -lt 25 ]; do
        i=$((i + 1))
        echo "begin immediate; insert into t values('$1', $i); commit; select count(*) > 0 from t;"
    done | sqlite3 -cmd '.timeout 30000' db > out.$1
}
worker a &
first=$!
worker b &
second=$!
wait $first
wait $second
sqlite3 db "select who, count(*), sum(number) from t group by who order by who; pragma integrity_check;"
cat out.a out.b | sort | uniq -c
)sh",
                    [](std::string_view path) { return path.find("db") == path.npos; });
    }
}

TEST_CASE("programs: sqlite databases shared by two mounts keep whole") {
    if (!have({"sqlite3"}) || testing_locally())
        return;
    // WAL needs memory shared between all its users, and so one machine; a rollback journal needs locks only.
    const ServerProcess server;
    const MountProcess first(server), second(server);
    REQUIRE(run_script(first.path(), "sqlite3 db 'create table t(who, number)'").exit_status == 0);
    std::vector<Child> workers;
    for (const MountProcess* mount : {&first, &second}) {
        const std::string script = R"sh(
i=0
while [ $i -lt 30 ]; do
    i=$((i + 1))
    sqlite3 -cmd '.timeout 60000' db "begin immediate; insert into t values('x', $i); commit;"
done)sh";
        workers.push_back(Child::start({.arguments = {"/bin/sh", "-euc", script}, .directory = mount->path()}));
    }
    for (Child& worker : workers) {
        const Ended end = worker.wait(script_deadline);
        INFO(end.to_string());
        CHECK(end.exit_status == 0);
    }
    for (const MountProcess* mount : {&first, &second}) {
        const Ended end =
            run_script(mount->path(), "sqlite3 db 'select count(*), sum(number) from t; pragma integrity_check'");
        INFO(end.to_string());
        CHECK(end.output == "60|930\nok\n");
    }
}

TEST_CASE("programs: configure and make -j2 of a C project") {
    if (!have({"make", "gcc"}))
        return;
    same_script(
        R"sh(
mkdir project
cd project
cat > configure <<'END'
#!/bin/sh
exec 5> config.log
try() { printf '%s\n' "$2" > conftest.c; if gcc -c conftest.c -o conftest.o >&5 2>&5; then echo "$1 yes"; echo "#define HAVE_$1 1" >> confdefs.h; else echo "$1 no"; fi; rm -f conftest*; }
: > confdefs.h
try STDIO '#include <stdio.h>'
try NONSENSE '#include <nonsense.h>'
try UNISTD '#include <unistd.h>
int main(void) { return getpid(); }'
mv confdefs.h config.h
sed 's/@CC@/gcc/' Makefile.in > Makefile
END
chmod +x configure
cat > Makefile.in <<'END'
CC = @CC@
OBJECTS = main.o part1.o part2.o part3.o part4.o
program: $(OBJECTS) libparts.a
	$(CC) -o $@ main.o -L. -lparts
libparts.a: part1.o part2.o part3.o part4.o
	ar rcsD $@ part1.o part2.o part3.o part4.o
%.o: %.c parts.h config.h
	$(CC) -O1 -MMD -c $< -o $@
clean:
	rm -f *.o *.d *.a program
END
echo 'int part1(void); int part2(void); int part3(void); int part4(void);' > parts.h
for i in 1 2 3 4; do printf '#include "parts.h"\n#include "config.h"\nint part%s(void) { return %s; }\n' $i $i > part$i.c; done
printf '#include <stdio.h>\n#include "parts.h"\nint main(void) { printf("%%d\\n", part1() + part2() + part3() + part4()); return 0; }\n' > main.c
./configure
make -s -j2
./program
make -s -j2 -q && echo up to date
touch parts.h
make -s -j2 -n | sort
make -s -j2
./program
rm config.log
)sh");
}

TEST_CASE("programs: fio writes and verifies") {
    if (!have({"fio"}))
        return;
    same_script(
        R"sh(
fio --output=/dev/null --name=mixed --rw=randrw --bssplit=1k/20:4k/40:60k/20:200k/20 --size=8m --verify=xxhash --verify_fatal=1 --ioengine=psync --randseed=7 --filename=mixed
fio --output=/dev/null --name=mapped --rw=randwrite --bs=4k --size=2m --verify=crc32c --verify_fatal=1 --ioengine=mmap --filename=mapped
fio --output=/dev/null --name=parallel --rw=write --bs=64k --size=2m --numjobs=3 --verify=md5 --verify_fatal=1 --ioengine=psync --fsync=16
ls
)sh",
        [](std::string_view path) {
            return path.find("parallel") == path.npos && path != "mixed" && path != "mapped";
        });
}

TEST_CASE("programs: logs that are rotated, followed and appended to") {
    same_script(R"sh(
echo start > log
: > followed
tail -n +1 -f log >> followed & tail=$!
i=0
while [ $i -lt 50 ]; do i=$((i + 1)); echo "line $i" >> log; done
n=0
until grep -q 'line 50' followed || [ $n -gt 200 ]; do n=$((n + 1)); sleep 0.05; done
kill $tail
wait $tail 2>/dev/null || true # some shells say how it ended, depending on when
cmp log followed
mv log log.1
echo new > log
gzip -n log.1
zcat log.1.gz | wc -l
)sh");
}
