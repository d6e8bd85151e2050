# One detached process on a host, known by its folder. POSIX shell, for dash and
# busybox alike, with as few processes as can be.
#   $1 operation   $2 folder   then the operation's own arguments
# In the folder: `.heliotrope`, the mark that it is ours (package folder), `pid` (process id, its
# start time, the boot), `output`, `errors`, and `stopped` once somebody has stopped it.

# look_at sets line to what /proc/PID/stat says of process $1, or of this shell
# when that is self, and since to its start time in ticks after boot (field 22;
# the second, a name in parentheses, may hold anything).
# It fails when there is no such process, or only what is left of one.
look_at() {
	{ read -r line < "/proc/$1/stat"; } 2> /dev/null || return 1
	set -- ${line##*) }
	[ "$1" != Z ] && [ "$1" != X ] && since=${20}
}

# alive sets pid, and says whether that is still the process that we started.
alive() {
	read -r pid started boot < "$folder/pid" || return 1
	read -r this_boot < /proc/sys/kernel/random/boot_id
	look_at "$pid" && [ "$since $this_boot" = "$started $boot" ]
} 2> /dev/null

# ours says whether the folder may be used and removed: it has our mark, is empty, or is not there.
ours() {
	[ -e "$folder/.heliotrope" ] || [ ! -e "$folder" ] || [ -z "$(ls -A "$folder")" ] ||
		[ -e "$folder/.heliotrope" ] # made meanwhile, before anything else in there
}

refuse() {
	echo "$1 has no file .heliotrope, so it is not known to be Heliotrope's: it is neither used nor removed; if an earlier build made it, remove it by hand" >&2
	exit 1
}

# make makes the folder and marks it.
make() {
	ours || refuse "$folder"
	mkdir -p "$folder" && : >> "$folder/.heliotrope" || exit 1
}

# await waits $1 tenths of a second for the end of the process.
await() {
	tenths=$1
	while [ "$tenths" -gt 0 ] && alive; do
		sleep 0.1
		tenths=$((tenths - 1))
	done
	! alive
}

# started_as runs in the new session. Of two starts at the same time one gets
# the name `pid`, and the other ends. The program takes this process's place.
started_as='
read -r line < /proc/self/stat
read -r boot < /proc/sys/kernel/random/boot_id
name=$$
tail=${line##*) }
since=$(set -- $tail; echo "${20}")
echo "$name $since $boot" > "pid.$name" && ln "pid.$name" pid || { rm -f "pid.$name"; exit 0; }
rm -f "pid.$name"
exec "$@"
'

# start prints the status of what runs then, or ran before.
start() {
	if [ ! -e "$folder/pid" ]; then
		make
		cd "$folder" || exit 1
		setsid sh -c "$started_as" sh "$@" > output 2> errors < /dev/null &
		tenths=100
		until [ -e pid ] || [ "$tenths" -eq 0 ]; do
			sleep 0.1
			tenths=$((tenths - 1))
		done
	fi
	status
}

# keep writes its input into file $1 of the folder, which only its owner can read.
keep() {
	make
	umask 077
	cat > "$folder/$1"
}

# status prints a line: none, running, stopped or ended. Then a line for each
# file, its first line. Then, of one that has ended, the end of what it said.
status() {
	state=none
	if alive; then
		state=running
	elif [ -e "$folder/stopped" ]; then
		state=stopped
	elif [ -e "$folder/pid" ]; then
		state=ended
	fi
	echo "$state"
	for file; do
		line=
		case $file in /*) ;; *) file=$folder/$file ;; esac
		{ read -r line < "$file"; } 2> /dev/null
		echo "$line"
	done
	if [ "$state" = ended ]; then
		tail -n 5 "$folder/errors" 2> /dev/null
	fi
	return 0
}

# usage prints of a running process: its id, the seconds since its start, its resident memory in kB (VmRSS,
# proc_pid_status(5)), and the processor time that it has used in ticks (utime and stime, proc_pid_stat(5)).
# A second has 100 ticks, except on Alpha and Itanium. What time it is, the start of this shell tells: a container's
# /proc/uptime may count from the container's start (lxcfs), and starts of processes count from the machine's.
usage() {
	alive || return 0
	of_process=$line
	look_at self || return 0
	resident=0
	while read -r name value rest; do
		if [ "$name" = VmRSS: ]; then
			resident=$value
		fi
	done < "/proc/$pid/status"
	set -- ${of_process##*) }
	echo "$pid $(((since - started) / 100)) $resident $((${12} + ${13}))"
} 2> /dev/null

# signal sends signal $1 to the process alone.
signal() {
	if alive; then
		kill "-$1" "$pid" 2> /dev/null
	fi
	return 0
}

# stop signals the whole process group: signal $1, then $2 tenths of grace, then
# KILL. It says `killed` when that was needed.
stop() {
	if alive; then
		: > "$folder/stopped"
		kill "-$1" "-$pid" 2> /dev/null
		if ! await "$2"; then
			echo killed
			kill -KILL "-$pid" 2> /dev/null
			await 100 || { echo "process $pid cannot be killed" >&2; exit 1; }
		fi
	fi
}

remove() {
	ours || refuse "$folder"
	stop "$@"
	rm -rf "$folder" || exit 1
	# The folder above may be others' too.
	rmdir "${folder%/*}" 2> /dev/null
	return 0
}

# sweep removes every process whose folder is in this one, and this one when nothing else is in it.
sweep() {
	above=$folder
	for folder in "$above"/*/; do
		folder=${folder%/}
		if [ -d "$folder" ] && ours; then
			remove "$@"
		fi
	done
	rmdir "$above" 2> /dev/null
	[ ! -e "$above" ] || refuse "something in $above"
}

# sizes prints the size of each file in bytes.
sizes() {
	cd "$folder" || exit 1
	for file; do
		wc -c < "$file" || exit 1
	done
}

# tail_of prints the last $2 bytes of a file.
tail_of() {
	tail -c "$2" "$folder/$1"
}

operation=$1 folder=$2
shift 2
"$operation" "$@"
