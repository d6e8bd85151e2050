# Makes a sample of counters for each line of input, which is its time in ns
# after 1970. `roles` holds a role and its device again and again. One process
# for the whole run, and few system calls: a shell reads a byte at a time.

# first returns the first line of a file, or "" where there is none.
function first(file,   text) {
	text = ""
	if ((getline text < file) <= 0) text = ""
	close(file)
	return text
}

# add prints the values of a line under the names of a list, as far as they go.
function add(device, list, text,   count, i, name, value) {
	count = split(list, name, " ")
	split(text, value, " ")
	for (i = 1; i <= count; i++) if (value[i] != "") print device, name[i], value[i]
}

function memory(   text, field) {
	while ((getline text < "/proc/meminfo") > 0) {
		split(text, field, " ")
		if (field[1] == "MemFree:") printf "memory free_bytes %.0f\n", field[2] * 1024
		if (field[1] == "MemAvailable:") { printf "memory available_bytes %.0f\n", field[2] * 1024; break }
	}
	close("/proc/meminfo")
}

function network(role, device,   i) {
	for (i = 1; i <= traffic_count; i++)
		add(role, traffic[i], first("/sys/class/net/" device "/statistics/" traffic[i]))
}

BEGIN {
	role_count = split(roles, role, " ")
	traffic_count = split("rx_bytes rx_packets rx_dropped tx_bytes tx_packets tx_dropped", traffic, " ")
	ticks = "user_ticks nice_ticks system_ticks idle_ticks iowait_ticks irq_ticks softirq_ticks steal_ticks"
	disk = "reads read_merges read_sectors read_ms writes write_merges write_sectors write_ms in_flight io_ms"
}

{
	print "@" $1
	processors = first("/proc/stat")
	sub(/^cpu +/, "", processors)
	add("cpu", ticks, processors)
	memory()
	for (r = 1; r < role_count; r += 2) {
		if (role[r] == "guest-disk") add(role[r], disk, first("/sys/class/block/" role[r + 1] "/stat"))
		else network(role[r], role[r + 1])
	}
	print "."
	fflush()
	# The file is behind, never ahead.
	print NR > "samples"
	close("samples")
}
