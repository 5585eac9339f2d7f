package coding

import "strings"

// Compressible reports whether bodies of a Content-Type are worth to be encoded: text
// in a wide sense. Images, sound, video, fonts of the web and archives are compressed
// by their own means; to do it again costs time and gains nothing. An unknown type is
// left alone, and so are event streams, whose parts must not wait for each other.
func Compressible(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.ToLower(strings.Trim(media, " \t"))
	switch media {
	case "text/event-stream":
		return false
	case "application/javascript", "application/x-javascript", "application/ecmascript", "application/json",
		"application/xml", "application/graphql", "application/x-ndjson", "application/jsonl", "application/toml",
		"application/yaml", "application/x-yaml", "application/sql", "application/rtf", "application/x-sh",
		"application/vnd.apple.mpegurl", "application/x-mpegurl", // playlists
		"application/wasm", // half of its size
		"application/vnd.ms-fontobject", "font/ttf", "font/otf", "font/collection", "font/sfnt",
		"application/x-font-ttf", "application/x-font-opentype", "application/font-sfnt", // woff and woff2 are compressed
		"image/bmp", "image/x-ms-bmp", "image/x-icon", "image/vnd.microsoft.icon", "image/x-portable-pixmap",
		"model/gltf+json", "model/obj", "model/stl":
		return true
	}
	kind, sub, _ := strings.Cut(media, "/")
	return kind == "text" || strings.HasSuffix(sub, "+json") || strings.HasSuffix(sub, "+xml") || strings.HasSuffix(sub, "+yaml")
}
