# Prints the time in ns after 1970 every $1 microseconds. A shell that knows the
# time itself also waits without starting a process: bash, and busybox's.

if [ -n "$EPOCHREALTIME" ]; then
	look() {
		us=$EPOCHREALTIME
		us=${us%.*}${us#*.}
		ns=${us}000
	}
	# Nobody ever writes into it.
	mkfifo silence && exec 3<> silence || exit 1
	pause() {
		read -r -t "$1" _ <&3
	}
else
	look() {
		ns=$(date +%s%N)
		us=${ns%???}
	}
	pause() {
		sleep "$1"
	}
fi

interval=$1
look
next=$us
while echo "$ns"; do
	next=$((next + interval))
	look
	rest=$((next - us))
	if [ "$rest" -le 0 ] || [ "$rest" -gt "$interval" ]; then
		# Too late, or somebody has set the clock.
		next=$((us + interval)) rest=$interval
	fi
	fraction=$((1000000 + rest % 1000000))
	pause "$((rest / 1000000)).${fraction#1}"
	look
done
