package conf

const MaxFile = maxFile

var (
	ParseBytes   = parseBytes
	ParsePercent = parsePercent
)
