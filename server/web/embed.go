// Package web holds the sources of the server's web page: plain HTML, CSS and
// ES modules, which the browser reads as they stand here. There is no build
// step. Package ui serves them:
//
//	http.Handle("/", ui.Handler())
package web

import "embed"

// Files are the sources that a browser loads: index.html, css/ and js/. The
// tests and the type checker's settings beside them are not part of it.
//
//go:embed index.html css/*.css css/icon.svg js/*.js
var Files embed.FS
