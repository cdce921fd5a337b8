package wasi

// rights say what a guest may do with a descriptor. Preview 1 lets a guest give rights up, never take
// them.
type rights uint64

const (
	rightDatasync rights = 1 << iota
	rightRead
	rightSeek
	rightSetFlags
	rightSync
	rightTell
	rightWrite
	rightAdvise
	rightAllocate
	rightCreateDirectory
	rightCreateFile
	rightLinkSource
	rightLinkTarget
	rightOpen
	rightReaddir
	rightReadlink
	rightRenameSource
	rightRenameTarget
	rightPathFilestatGet
	rightPathSetSize
	rightPathSetTimes
	rightFilestatGet
	rightSetSize
	rightSetTimes
	rightSymlink
	rightRemoveDirectory
	rightUnlink
	rightPoll
	rightShutdown
	rightAccept

	allRights = 1<<iota - 1
)

// The rights that apply to each kind of descriptor.
const (
	writeRights     = rightWrite | rightAllocate | rightSetSize
	fileRights      = rightDatasync | rightRead | rightSeek | rightSetFlags | rightSync | rightTell | rightAdvise | rightFilestatGet | rightSetTimes | rightPoll | writeRights
	directoryRights = rightDatasync | rightSync | rightSetFlags | rightCreateDirectory | rightCreateFile | rightLinkSource | rightLinkTarget |
		rightOpen | rightReaddir | rightReadlink | rightRenameSource | rightRenameTarget | rightPathFilestatGet | rightPathSetSize |
		rightPathSetTimes | rightFilestatGet | rightSetTimes | rightSymlink | rightRemoveDirectory | rightUnlink
	streamRights   = rightSetFlags | rightFilestatGet | rightPoll
	inputRights    = streamRights | rightRead
	outputRights   = streamRights | rightWrite
	socketRights   = streamRights | rightRead | rightWrite | rightShutdown
	listenerRights = streamRights | rightRead | rightAccept // rightRead: to poll it for reading
)

// has tells whether r holds all of wanted.
func (r rights) has(wanted rights) bool { return r&wanted == wanted }

// fdflags are the modes of a descriptor.
type fdflags uint16

const (
	flagAppend fdflags = 1 << iota
	flagDsync
	flagNonblock
	flagRsync
	flagSync

	allFlags = 1<<iota - 1
)

// filetype is what a descriptor or name stands for.
type filetype uint8

const (
	typeUnknown filetype = iota
	typeBlockDevice
	typeCharacterDevice
	typeDirectory
	typeRegular
	_ // a socket for datagrams
	typeSocketStream
	typeSymlink
)
