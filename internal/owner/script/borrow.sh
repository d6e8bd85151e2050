# Kernel settings of a host that are not ours, and that are set for as long as a lease
# lasts. It stands after shared.sh. In folder, which is gone with the boot as the settings
# are, each has a record: its file, its former value, ours, and the word "end".

# present sets value to what a setting is now.
present() {
	value=$(cat "$1" 2> /dev/null)
}

# read_record sets file, former and ours; it fails for a record that is not whole.
read_record() {
	file='' former='' ours='' last=''
	{
		IFS= read -r file
		IFS= read -r former
		IFS= read -r ours
		IFS= read -r last
	} < "$1"
	[ "$last" = end ]
}

# borrow FILE VALUE: the former value is on record before the setting is changed. One that
# cannot be told from none, or of several lines, could not be given back.
borrow() {
	wanted=$2 record=$folder/$(printf %s "$1" | tr / :)
	if [ -e "$record" ]; then
		present "$1" && read_record "$record" && [ "$value" = "$ours" ] && [ "$ours" = "$wanted" ] && return
		give_back "$record" || fail "$1 does not take its former value"
	fi
	present "$1" || fail "there is no setting $1"
	[ "$value" != "$wanted" ] || return 0
	[ -n "$value" ] && [ "$(printf '%s\n' "$value" | wc -l)" -eq 1 ] || fail "the value of $1 cannot be given back, so that it is not changed: $value"
	mkdir -p "$folder" && printf '%s\n' "$1" "$value" "$wanted" end > "$record.new" && mv "$record.new" "$record" ||
		fail "cannot write down what $1 was"
	printf %s "$wanted" > "$1" && present "$1" && [ "$value" = "$wanted" ] || fail "$1 does not take the value $wanted"
}

# give_back RECORD: what is not as we have set it any more is somebody else's.
give_back() {
	if read_record "$1" && present "$file" && [ "$value" = "$ours" ]; then
		printf %s "$former" > "$file" || return 1
		echo "heliotrope: $file has its former value again: $former" 2> /dev/null > /dev/kmsg
	fi
	rm -f "$1"
}

# give_back_all goes on past errors.
give_back_all() {
	kept=''
	for record in "$folder"/*; do
		case $record in *.new) continue ;; esac
		[ ! -f "$record" ] || give_back "$record" || kept="$kept $file"
	done
	[ -z "$kept" ] || fail "these settings do not take their former values:$kept"
	forget
}
