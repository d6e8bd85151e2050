# The watchdog of a lease: it removes the shaping once nobody renews it. It is
# started by control.sh in a session of its own, and ends by itself when another
# watchdog has taken its place.

main() {
	folder=$1 device=$2 ifb=$3 handle=$4 token=$5
	watch
	remembered=''
	while :; do
		read_lease
		if [ -n "$lease_token" ] && [ "$lease_token" != "$token" ]; then
			hand_over
		fi
		# Only from a folder with our lease: another's knows less when ours
		# was lost.
		if [ "$lease_token" = "$token" ] && [ -e "$folder/offloads" ]; then
			remembered=$(cat "$folder/offloads")
		fi
		if [ "$left" -le 0 ]; then
			expire
		fi
		# A lease can be made shorter: look now and then.
		if [ "$left" -le 0 ] || [ "$left" -gt 5 ]; then
			left=5
		fi
		sleep "$left"
	done
}

# hand_over leaves to another watchdog, with what is remembered: the folder may
# have been lost in between.
hand_over() {
	lock
	read_lease
	if [ -n "$lease_token" ] && [ "$lease_token" != "$token" ]; then
		recall
		exit 0
	fi
	unlock
}

# recall writes down again which offloads are to be switched on.
recall() {
	if [ -n "$remembered" ]; then
		mkdir -p "$folder" && echo "$remembered" | remember
	fi
}

# expire clears the shaping, unless somebody renewed it in the last moment. A
# lease file that is gone is a lease that is over.
expire() {
	lock
	read_lease
	if [ -n "$lease_token" ] && { [ "$lease_token" != "$token" ] || [ "$left" -gt 0 ]; }; then
		unlock
		return
	fi
	recall
	if clear_shaping; then
		echo "heliotrope: nobody renewed the shaping of $device: removed" 2> /dev/null > /dev/kmsg
		forget
		exit 0
	fi
	unlock
}

main "$@"
exit 0
