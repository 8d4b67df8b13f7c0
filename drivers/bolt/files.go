package bolt

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/driver/feed"
)

// bucket holds the entries. No other program may write to it.
var bucket = []byte("polykv")

// Files are the files that a process has open. The zero value is ready to use,
// and a process needs one only, since clients of the same file must open it
// through the same Files.
type Files struct {
	mu   sync.Mutex
	open map[string]*file // by absolute path
}

// file is one open file, shared by its handles.
type file struct {
	cfg     Config
	handles int // guarded by Files.mu

	bolt   *bbolt.DB
	update func(func(*bbolt.Tx) error) error // bolt.Update
	writer chan struct{}                     // holds a value while a write is under way

	feed   feed.Feed // told of commits while writer is held
	leases feed.Leases

	failed  chan struct{} // closed when failure is set
	failure error
}

// Open returns a new handle on the file at cfg.Path for one client. The first
// handle opens the file, and closing the last one closes it. While it is open,
// it is an error to open it with other settings.
//
// Open waits up to cfg.Timeout if another process has the file open.
func (fs *Files) Open(cfg Config) (driver.Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	path, err := filepath.Abs(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("path: %w", err)
	}
	cfg.Path = path
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f := fs.open[path]
	if f == nil {
		if f, err = openFile(cfg); err != nil {
			return nil, err
		}
		if fs.open == nil {
			fs.open = map[string]*file{}
		}
		fs.open[path] = f
	}
	if f.cfg != cfg {
		return nil, fmt.Errorf("path: %s is open in this process with other settings: %+v", path, f.cfg)
	}
	f.handles++
	return &handle{file: f, release: func() error { return fs.release(f) }}, nil
}

// release gives up one handle of f.
func (fs *Files) release(f *file) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f.handles--; f.handles > 0 {
		return nil
	}
	delete(fs.open, f.cfg.Path)
	f.leases.Stop()
	return f.bolt.Close()
}

// openFile opens the file, and always commits once. That makes durable what a
// commit that failed at its last step, before, may have left in the operating
// system's memory only.
func openFile(cfg Config) (*file, error) {
	db, err := bbolt.Open(cfg.Path, 0o600, &bbolt.Options{Timeout: cfg.Timeout, NoSync: cfg.NoSync})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("path: %s is in use by another process, for longer than %v: %w", cfg.Path, cfg.Timeout, err)
	case err != nil:
		return nil, fmt.Errorf("path: %s: %w", cfg.Path, err)
	}
	f := &file{cfg: cfg, bolt: db, update: db.Update, writer: make(chan struct{}, 1), failed: make(chan struct{})}
	if err = db.Update(makeBuckets); err == nil {
		err = db.View(f.load)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("path: %s: %w", cfg.Path, err), db.Close())
	}
	return f, nil
}

// makeBuckets makes those that are missing.
func makeBuckets(tx *bbolt.Tx) (err error) {
	for _, name := range [][]byte{bucket, leaseBucket, attachedBucket} {
		_, failed := tx.CreateBucketIfNotExists(name)
		err = errors.Join(err, failed)
	}
	return err
}
