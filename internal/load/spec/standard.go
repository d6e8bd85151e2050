package spec

import "fmt"

// Standard returns the access specifications that need no definition. Those with names of our own
// come first: file-server, web-server, workstation and database are the well-known examples of
// Iometer's early versions, and the others are ours. The rest are Iometer 1.1.0's default
// specifications, under its names (AccessSpecList.cpp, InsertDefaultSpecs), without Idle.
func Standard() []Access {
	ours := []Access{
		single("4k-mixed-random", 4<<10, 67, 100), // 67 % reads, as in database
		single("4k-read-sequential", 4<<10, 100, 0),
		single("4k-write-random", 4<<10, 0, 100),
		single("database", 8<<10, 67, 100),
		mixed("file-server", 80, [][2]int{
			{512, 10}, {1 << 10, 5}, {2 << 10, 5}, {4 << 10, 60}, {8 << 10, 2}, {16 << 10, 4}, {32 << 10, 4}, {64 << 10, 10},
		}),
		mixed("web-server", 100, [][2]int{
			{512, 22}, {1 << 10, 15}, {2 << 10, 8}, {4 << 10, 23}, {8 << 10, 15}, {16 << 10, 2}, {32 << 10, 6},
			{64 << 10, 7}, {128 << 10, 1}, {512 << 10, 1},
		}),
		single("workstation", 8<<10, 80, 80),
	}
	return append(ours, iometers()...)
}

func single(name string, sizeBytes, readPercent, randomPercent int) Access {
	line := Line{SizeBytes: sizeBytes, SharePercent: 100, ReadPercent: readPercent, RandomPercent: randomPercent}
	return Access{Name: name, Outstanding: 1, Lines: []Line{line}}
}

// mixed returns a fully random mix of sizes in bytes, each with its share in percent.
func mixed(name string, readPercent int, sizes [][2]int) Access {
	access := Access{Name: name, Outstanding: 1}
	for _, size := range sizes {
		access.Lines = append(access.Lines, Line{SizeBytes: size[0], SharePercent: size[1], ReadPercent: readPercent, RandomPercent: 100})
	}
	return access
}

// iometers returns the default specifications of Iometer 1.1.0.
func iometers() []Access {
	quarters, halves := []int{100, 75, 50, 25, 0}, []int{100, 50, 0}
	first := single("Default", 2048, 67, 100)
	first.Lines[0].AlignBytes = 2048
	result := []Access{first}
	all := Access{Name: "All in one", Outstanding: 1}
	add := func(label string, sizeBytes int, reads []int, randomPercent, alignBytes int) {
		for _, read := range reads {
			access := single(fmt.Sprintf("%s; %d%% Read; %d%% random", label, read, randomPercent), sizeBytes, read, randomPercent)
			access.Lines[0].AlignBytes = alignBytes
			result = append(result, access)
			all.Lines = append(all.Lines, access.Lines[0])
		}
	}
	add("512 B", 512, quarters, 0, 0)
	add("4 KiB", 4<<10, quarters, 0, 0)
	add("4 KiB aligned", 4<<10, halves, 100, 4<<10)
	add("16 KiB", 16<<10, quarters, 0, 0)
	add("32 KiB", 32<<10, quarters, 0, 0)
	add("64 KiB", 64<<10, halves, 0, 0)
	add("256 KiB", 256<<10, halves, 0, 0)
	for i := range all.Lines {
		all.Lines[i].SharePercent = 100 / len(all.Lines)
		if i < 100%len(all.Lines) {
			all.Lines[i].SharePercent++
		}
	}
	return append(result, all)
}
