//go:build !linux

package durable

// DirectFlag is zero: writes are made durable by [File.Sync].
const DirectFlag = 0
