package kaizen

import (
	_ "github.com/andybalholm/brotli"
	_ "github.com/klauspost/compress/zstd"
)
