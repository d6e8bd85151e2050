# Samples counters into `counters.txt` until it is ended: $1 pace.sh,
# $2 counters.awk, $3 interval in microseconds, then roles and devices.
pace=$1 counters=$2 interval=$3
shift 3

if [ -n "$(busybox sh -c 'echo "$EPOCHREALTIME"' 2> /dev/null)" ]; then
	shell='busybox sh'
elif [ -n "$(bash -c 'echo "$EPOCHREALTIME"' 2> /dev/null)" ]; then
	shell=bash
else
	shell=sh
fi
if busybox awk 'BEGIN { exit 0 }' 2> /dev/null; then
	awk='busybox awk'
else
	awk=awk
	# It would read ahead.
	case $(awk -W version 2>&1 < /dev/null) in
	mawk*) awk='awk -W interactive' ;;
	esac
fi
$shell -c "$pace" pace "$interval" | $awk -v "roles=$*" "$counters" >> counters.txt
