#!/bin/busybox sh
# Process 1 of the machine: SIZE SUBJECT...: how many connections the crowd has, and the other subjects. The results of each
# run stand between a line that begins with `RUN` and the next one.

/bin/busybox mount -t proc none /proc
/bin/busybox mount -t devtmpfs none /dev
/bin/busybox mount -t tmpfs none /tmp
/bin/busybox --install -s /bin 2> /dev/null
export PATH=/bin
ip link set lo up
stty -opost < /dev/ttyS1
exec > /dev/ttyS1 2>&1
echo "VERSION $(uname -srv)"

# More than the library's table has places for.
LIMIT=1000000
echo 2000000 > /proc/sys/fs/nr_open
echo 4000000 > /proc/sys/fs/file-max
ulimit -Hn 1100000
ulimit -Sn $LIMIT
port=20000
size=$1
shift

# What stands before a command in this world.
under() {
    [ "$1" = both ] && echo "smc_run"
}

# What an end wrote to standard error. Of the library's lines, one for each connection, those of connections that it expected
# to move, and the number of all that did.
errors() {
    sed -n 's/^expected to move: //p' "$1.err" > claimed
    grep -v "runs on SMC-D\|stays on TCP" "$1.err" | sed "s/^/$1 /"
    grep "runs on SMC-D" "$1.err" | grep -Fwf claimed | sed "s/^/$1 /"
    echo "moved $(grep -c "runs on SMC-D" "$1.err")"
}

# Facts of one subject: WORLD SUBJECT ROLE.
facts() {
    port=$((port + 1))
    rm -rf /tmp/pair && mkdir /tmp/pair && cd /tmp/pair
    local server=peer client=peer run="$(under "$1")" started=$(cut -d. -f1 /proc/uptime)
    [ "$3" = server ] && server=acts || client=acts
    SMC_DEBUG=1 $run "/bin/$2" $server server $port > server.out 2> server.err &
    until grep -q ":$(printf %04X $port) 00000000:0000 0A" /proc/net/tcp; do usleep 20000; done
    SMC_DEBUG=1 $run "/bin/$2" $client client $port > client.out 2> client.err
    wait
    echo "RUN facts $*"
    cat "$3.out"
    errors server
    errors client
    echo "seconds $(($(cut -d. -f1 /proc/uptime) - started))"
}

# Figures under a limit: WORLD LIMIT.
figures() {
    cd /tmp
    echo "RUN figures $*"
    SMC_DEBUG=1 $(under "$1") descriptors "$2"
}

# What smcss shows of a connection: STATE, as a name.
listing() {
    cd /tmp
    echo "RUN listing $*"
    smc_run descriptors list
}

listing without-diag
for role in server client; do
    facts tcp writing $role
    facts both writing $role
done

insmod /inet_diag.ko && insmod /tcp_diag.ko && insmod /unix_diag.ko
listing with-diag

for world in tcp both; do
    for limit in 1024 $LIMIT; do
        figures $world $limit
    done
done
for role in server client; do
    for subject; do
        facts tcp $subject $role
        facts both $subject $role
    done
done
# Small rings: there is memory for more.
export CROWD=$size SMC_RCVBUF=16384 SMC_SNDBUF=16384
facts tcp crowd server
facts both crowd server
echo END
poweroff -f
