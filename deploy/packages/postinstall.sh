#!/bin/sh
# Makes the service's user and its home, and has an upgrade run. dpkg --root names another root in DPKG_ROOT.
set -e
root=${DPKG_ROOT:-/}
systemd-sysusers --root="$root" heliotrope.conf
systemd-tmpfiles --root="$root" --create heliotrope.conf
if [ "$root" = / ] && [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	# Campaigns wait for the new program, and go on.
	systemctl try-restart heliotrope.service
fi
