// Package record holds what travels down the line: chunks of whole records as
// they were read from one file, the batches that are sealed together, and the
// positions that say how far each file is taken.
//
//	files ──▶ Chunk ──▶ Batch ──▶ LogGroupList (protobuf) ──▶ sealed
//	            └──▶ []Position ──▶ delta ──▶ spool
//
// A batch is encoded as the SLS LogGroupList of [Alibaba Cloud Log Service],
// one LogGroup a chunk; [Decode] is the inverse. Offsets are bytes of the file
// (of a compressed file: of its inflated text), times are unix nanoseconds.
//
// [Alibaba Cloud Log Service]: https://www.alibabacloud.com/help/en/sls/developer-reference/api-data-encoding
package record

import "time"

// Bounds of one chunk. A chunk within them always encodes to at most
// [MaxChunkEncoded] bytes, tags included, so that a batch of one chunk always
// fits in an envelope, compressed or not, and a batch can be divided between
// any two chunks.
const (
	MaxChunkBytes   = 512 << 10 // content bytes
	MaxChunkRecords = 1024      // records
	MaxTagBytes     = 16 << 10  // paths and the stream's tags
	MaxChunkEncoded = 640 << 10
)

// A Chunk is a run of whole records of one file, as read, or news of a file
// without records (a position that moved, an event). Its sender fills it, its
// receiver calls Release once it has encoded it and keeps no slice of it.
type Chunk struct {
	Path    string
	Inode   uint64
	Offset  int64 // of the first byte of the run
	End     int64 // one past its last byte, line end included
	Raw     int64 // bytes of the file that the records take, where that is not End − Offset; else 0
	Taken   int64 // bytes by which positions of files advance: also those of records that were dropped, or taken before
	Time    int64 // when it was read, unix ns: the time of records without one of their own
	Records []Record
	Tags    []Tag      // known of this file alone, such as a pod's name
	Events  []Event    // what happened to files, sealed with the records
	Moved   []Position // positions as they are once the chunk is taken

	Recycle func(*Chunk) // owner's; may be nil
}

// Release hands the chunk back to its owner. The chunk must not be used after.
func (c *Chunk) Release() {
	if c.Recycle != nil {
		c.Recycle(c)
	}
}

// A Record is one log event: a line without its line end, several joined by
// line feeds, or a part of one.
type Record struct {
	Content []byte
	Offset  int64  // of the record's first byte in the file
	Time    int64  // unix ns; 0 = the chunk's
	Source  string // source stream: stdout, stderr; "" where a file has just one
	Part    *Part  // nil for a whole record
}

// A Part says which piece of a cut record this is. Pieces of one id join in
// index order; Last is set on the final piece where that is known.
type Part struct {
	ID    uint64
	Index uint32
	Last  bool
}

// A Tag is one name and value sealed with every record of a group.
type Tag struct{ Key, Value string }

// An Event is what the agent itself has to say, sealed in-band: a record
// without content. Names and fields are listed in docs/FORMAT.md.
type Event struct {
	Name   string
	Time   time.Time
	Fields []Tag
}
