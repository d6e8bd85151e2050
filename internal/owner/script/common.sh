# What lease.sh and watchdog.sh share. Both set folder, which has the lease and what is
# to be done when nobody renews it. It stands after shared.sh.

# read_lease sets token and owner of the lease that there is, or was; holder, which is
# empty when nobody has the host; and left, the seconds until the lease ends.
read_lease() {
	token='' owner='' holder='' left=0
	read -r boot < /proc/sys/kernel/random/boot_id
	read -r now _ < /proc/uptime
	now=${now%.*}
	[ -e "$folder/lease" ] || return 0
	{
		read -r of_boot deadline token
		read -r owner
	} < "$folder/lease"
	if [ "$of_boot" = "$boot" ]; then
		left=$((deadline - now))
	fi
	if [ "$left" -gt 0 ]; then
		holder=$owner
	fi
}

# end_all ends what runs on this host for an owner whose lease is over. It must not
# hang: whoever comes to the host waits for it.
end_all() {
	[ -e "$folder/ending" ] || return 0
	set --
	while read -r argument; do
		set -- "$@" "$argument"
	done < "$folder/arguments"
	timeout 300 /bin/sh "$folder/ending" "$@" < /dev/null > /dev/null 2>&1 9>&-
	echo "heliotrope: the lease of $owner is over: ended what ran for it" 2> /dev/null > /dev/kmsg
}
