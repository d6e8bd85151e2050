# What all scripts share that hold something on a host and have a watchdog there. Each
# sets folder, a folder of its own in that of Heliotrope. POSIX shell, for dash and
# busybox alike.

fail() {
	echo "$*" >&2
	exit 1
}

# lock waits until no other of our scripts is at work on this host. It lasts as long as
# the process, or until unlock.
lock() {
	exec 9< "${folder%/heliotrope/*}" && flock 9 || fail "cannot lock ${folder%/heliotrope/*}"
}

unlock() {
	exec 9<&-
}

# start_watchdog ARGUMENT... has a watchdog run in a session of its own: what the function
# write_watchdog prints, with the folder and the arguments. It fails when none starts.
start_watchdog() {
	write_watchdog > "$folder/watchdog.new" && mv "$folder/watchdog.new" "$folder/watchdog" || return 1
	rm -f "$folder/pid"
	setsid /bin/sh "$folder/watchdog" "$folder" "$@" < /dev/null > /dev/null 2>&1 9<&- &
	tries=0
	while [ ! -s "$folder/pid" ]; do
		tries=$((tries + 1))
		[ $tries -le 200 ] || return 1
		sleep 0.05
	done
}

# watch is what a watchdog does first.
watch() {
	# The last process to be killed when memory is short.
	echo -1000 2> /dev/null > /proc/self/oom_score_adj
	echo $$ > "$folder/pid"
}

# watchdog_lives sets pid and says whether that is our watchdog.
watchdog_lives() {
	[ -s "$folder/pid" ] || return 1
	read -r pid < "$folder/pid"
	[ -e "/proc/$pid/cmdline" ] || return 1
	case $(tr '\0' ' ' < "/proc/$pid/cmdline") in
	*"$folder/watchdog $folder "*) return 0 ;;
	esac
	return 1
}

end_watchdog() {
	if watchdog_lives; then
		# The one form that dash, bash and busybox all understand.
		kill -TERM "-$pid"
	fi
	rm -f "$folder/pid"
}

# forget removes our folder. The one above it may be others' too.
forget() {
	rm -rf "$folder"
	rmdir "${folder%/*}" 2> /dev/null
	return 0
}
