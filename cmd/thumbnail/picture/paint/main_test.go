package main

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// The photographs in the repository are the ones that this program draws.
func TestPhotosAreUpToDate(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("other processors fuse float operations, which changes the grain")
	}
	dir := t.TempDir()
	for name, scene := range scenes {
		path := filepath.Join(dir, name+".jpg")
		if err := write(path, scene); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(filepath.Join("..", "photos", name+".jpg"))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s.jpg is not what go generate makes", name)
		}
	}
}
