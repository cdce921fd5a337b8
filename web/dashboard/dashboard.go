// Package dashboard holds the page that shows a cluster in a browser: plain HTML, one stylesheet and
// three script modules, embedded as they are. There is no build step and nothing is loaded from elsewhere.
package dashboard

import (
	"embed"
	"io/fs"
)

//go:embed index.html app.js storage.js why.js app.css icon.svg
var files embed.FS

// Files are the page's files.
func Files() fs.FS { return files }
