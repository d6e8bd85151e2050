#!/bin/sh
# Ends the service, and has it not started any more, when the package goes (dpkg says remove, rpm 0) and not when the
# next version comes.
set -e
case "$1" in
remove | 0) ;;
*) exit 0 ;;
esac
root=${DPKG_ROOT:-/}
if [ "$root" = / ] && [ -d /run/systemd/system ]; then
	systemctl stop heliotrope.service
fi
systemctl --root="$root" --quiet disable heliotrope.service
