# Runs one command and outlives neither its owner nor its use. Arguments: the log file, the directory to
# remove when the owner is gone ("" for none), the command. Standard input is a pipe whose other end only the
# owner holds: end of file there means that the owner is gone, however it went, and the command is killed.
# The first line of standard output is the pid of the command. Exits with the status of the command.
log=$1
scratch=$2
shift 2
exec 3<&0 </dev/null
"$@" 3<&- >>"$log" 2>&1 &
pid=$!
echo "$pid"
exec >/dev/null 2>&1
orphan=$log.orphan
hung_up=
# A group with a stopped process is hung up by the kernel, without a word on the pipe, when its owner ends.
trap 'hung_up=yes' HUP
trap : INT TERM
(
    trap '' HUP
    read -r _ <&3
    : >"$orphan"
    kill -KILL "$pid"
) &
watcher=$!
while :; do
    wait "$pid"
    status=$?
    kill -0 "$pid" || break
done
kill "$watcher"
if [ -n "$hung_up" ] || [ -e "$orphan" ]; then
    rm -f "$orphan"
    [ -z "$scratch" ] || rm -rf "$scratch"
fi
exit "$status"
