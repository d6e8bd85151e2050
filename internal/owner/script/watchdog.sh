# The watchdog of a lease: it ends what runs for the owner when nobody renews it. It is
# started by lease.sh in a session of its own, and ends by itself when the lease was given
# back or is another's.

main() {
	folder=$1 ours=$2
	watch
	while :; do
		read_lease
		[ "$token" = "$ours" ] || exit 0
		if [ "$left" -le 0 ]; then
			expire
		fi
		if [ "$left" -le 0 ] || [ "$left" -gt 60 ]; then
			left=60
		fi
		sleep "$left"
	done
}

# expire ends all, unless somebody came in the last moment.
expire() {
	lock
	read_lease
	[ "$token" = "$ours" ] || exit 0
	if [ "$left" -le 0 ]; then
		end_all
		forget
		exit 0
	fi
	unlock
}

main "$@"
exit 0
