# What all scripts share that hold something on a host and have a watchdog there. Each
# sets folder, a folder of its own in that of Heliotrope. POSIX shell, for dash and
# busybox alike.

fail() {
	echo "$*" >&2
	exit 1
}

# lock [SECONDS] waits until no other of our scripts is at work on this host, and fails after
# so many seconds; without a number it waits for ever. It lasts as long as the process, or until
# unlock. The lock is a file that only root can open, so that nobody else can hold it. Whoever has
# had the lock removes it, and the folder of Heliotrope's, when nothing else is in there.
lock() {
	umask 077
	place=${folder%/*} tries=0
	while [ $tries -lt 100 ]; do
		tries=$((tries + 1))
		[ -d "$place" ] || mkdir -p "$place" || fail "cannot make $place"
		# Another script may have removed the folder since.
		{ command exec 9>> "$place/lock"; } 2> /dev/null || continue
		flock -n 9 || ${1:+timeout "$1"} flock 9 || fail "another script of Heliotrope's has been at work here for $1 s: it holds $place/lock"
		if is_locked; then
			trap leave EXIT
			return 0
		fi
	done
	fail "cannot lock $place/lock"
}

# is_locked says whether the file that we have locked is still in its place.
is_locked() {
	[ "$place/lock" -ef /proc/self/fd/9 ]
}

# lock_to_look [SECONDS] is lock for what changes nothing: it makes no folder where there is none,
# and so nothing to look at.
lock_to_look() {
	[ ! -d "${folder%/*}" ] || lock "$@"
}

# leave removes the lock, and the folder, when nothing else is in there. Only who has the lock may
# do that.
leave() {
	is_locked || return 0
	for other in "$place"/*; do
		[ "$other" = "$place/lock" ] || return 0
	done
	rm -f "$place/lock"
	rmdir "$place" 2> /dev/null
}

unlock() {
	trap - EXIT
	leave
	exec 9>&-
}

# start_watchdog ARGUMENT... has a watchdog run in a session of its own: what the function
# write_watchdog prints, with the folder and the arguments. It fails when none starts.
start_watchdog() {
	write_watchdog > "$folder/watchdog.new" && mv "$folder/watchdog.new" "$folder/watchdog" || return 1
	rm -f "$folder/pid"
	setsid /bin/sh "$folder/watchdog" "$folder" "$@" < /dev/null > /dev/null 2>&1 9>&- &
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

# forget removes our folder. The one above it is removed by whoever ends with the lock.
forget() {
	rm -rf "$folder"
}
