package disk

// Config says where the tier is and how large it may become.
type Config struct {
	// Path is the folder of the tier. It is made if it is not there, and belongs to
	// one process at a time; files in it that are not segments are left alone. Empty
	// switches the tier off.
	Path string `koanf:"path" format:"path"`
	// Size bounds the bytes of all files of the tier, at every instant, those
	// included that are removed and still read. Less than 1 MiB switches the tier
	// off.
	Size int64 `koanf:"size" unit:"bytes" default:"10GiB" min:"1MiB"`
	// WriteRate is how many bytes a second the tier wants to be given, which spares
	// disks that wear out. It is a hint to whoever chooses what is put in (see
	// Willing), not a limit. Zero is as many as the disk takes.
	WriteRate int64 `koanf:"write_rate" unit:"bytes" default:"0"`
}

func (c *Config) on() bool { return c.Path != "" && c.Size >= smallestTier }

const (
	smallestTier    = 1 << 20
	smallestSegment = 64 << 20
	largestSegment  = 256 << 20
	// Segments are a 64th of the tier if they may be: what is evicted at once.
	segmentShare = 64
	// A tier too small for four of them has smaller ones.
	fewestSegments = 4
	// The index has an object for each 2 KiB of the tier at most, and so takes a fiftieth
	// of its size: who asks for ever new small things must not fill the memory with it.
	// A small tier may have a million, in some 40 MiB.
	leastShare    = 2 << 10
	fewestObjects = 1 << 20
)

// segmentBytes returns the size of a segment. A tier turns over in steps of it,
// so it must be a small part, and one large enough that making and removing
// files costs nothing beside filling them.
func (c *Config) segmentBytes() int64 {
	return min(min(max(c.Size/segmentShare, smallestSegment), largestSegment), c.Size/fewestSegments) &^ (pageBytes - 1)
}

// mostObjects returns how many objects the tier has before old ones make room, however
// small they are.
func (c *Config) mostObjects() int { return int(max(c.Size/leastShare, fewestObjects)) }
