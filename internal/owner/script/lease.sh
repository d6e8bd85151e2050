# Leases a host to one owner. It is given on standard input, after shared.sh,
# common.sh and the functions write_watchdog and write_ending, which print those two with
# watchdog.sh, and what is to be done when nobody renews the lease.
# The first line of the file "lease" is the boot, the second of it (by a clock that nobody
# sets) at which the lease ends, and a word of its own; the second line is the owner.

# The exit codes that say that there is no lease to renew, and that somebody else
# has it.
lapsed=3 held=4

# main OPERATION FOLDER [ARGUMENT...]
main() {
	operation=$1 folder=$2
	shift 2
	case $operation in
	state) lock_to_look 50 ;;
	*) lock 50 ;;
	esac
	read_lease
	case $operation in
	take) take "$@" ;;
	renew) renew "$@" ;;
	release) release "$@" ;;
	state) state ;;
	*) fail "no operation $operation" ;;
	esac
}

# write_lease SECONDS: of two leases of the same owner, the longer one counts.
write_lease() {
	if [ "$left" -lt "$1" ]; then
		left=$1
	fi
	printf '%s\n' "$boot $((now + left)) $token" "$owner" > "$folder/lease.new" &&
		mv "$folder/lease.new" "$folder/lease" || fail "cannot write the lease"
}

# refuse says who has the host, and for how many seconds.
refuse() {
	printf '%s\n' "$left" "$holder"
	echo "the host is leased to $holder" >&2
	exit $held
}

# take OWNER SECONDS TOKEN INSTEAD [ARGUMENT...]: the arguments are the ending's. It prints
# "kept" when the owner had it before, otherwise "new". A lease of the owner INSTEAD is
# ended; what runs for an owner whose lease is over is ended before somebody else gets
# the host.
take() {
	taker=$1 lease=$2 word=$3 instead=$4 had=kept
	shift 4
	if [ "$holder" != "$taker" ]; then
		if [ -n "$holder" ] && [ "$holder" != "$instead" ]; then
			refuse
		fi
		end_watchdog
		if [ -n "$owner" ] && [ "$owner" != "$taker" ]; then
			end_all
		fi
		mkdir -p "$folder" || fail "cannot make $folder"
		owner=$taker token=$word left=0 had=new
	fi
	write_lease "$lease"
	guard "$@"
	echo $had
}

# renew OWNER SECONDS
renew() {
	if [ -z "$holder" ]; then
		echo "the lease is over" >&2
		exit $lapsed
	fi
	[ "$holder" = "$1" ] || refuse
	write_lease "$2"
}

# release OWNER: another's lease stays.
release() {
	if [ "$owner" = "$1" ]; then
		end_watchdog
		forget
	fi
}

# state prints the seconds left and the owner; nothing when nobody has the host.
state() {
	if [ -n "$holder" ]; then
		printf '%s\n' "$left" "$holder"
	fi
}

# guard [ARGUMENT...] has a watchdog run. Without it the lease would only keep others away.
guard() {
	watchdog_lives && return
	printf '%s\n' "$@" > "$folder/arguments" && write_ending > "$folder/ending" || fail "cannot write what the watchdog is to do"
	start_watchdog "$token" || fail "the watchdog of the lease does not start"
}

main "$@"
exit $?
