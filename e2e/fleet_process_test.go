package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"

	"github.com/polykv/polykv/kv/multi/migrate"
)

// A fleetProcess is a member as its parent sees it.
type fleetProcess struct {
	fleet *fleet
	name  string
	cmd   *exec.Cmd
	input io.WriteCloser
	notes bytes.Buffer // what it wrote to its standard error

	quiet chan struct{} // closed when it has said so
	ended chan struct{} // closed when all that it told was taken in and it is gone
	err   error         // how it ended

	mu      sync.Mutex
	open    map[int]fleetLine // operations under way, by number
	began   map[int]int64
	watches map[string]int // by key, the number of the watch in the key's history
	picture map[string]string
	synced  map[string]bool // by prefix
	since   time.Duration
}

// fleetCommand is this test binary as a process of the fleet.
func fleetCommand(c fleetChild) (*exec.Cmd, error) {
	config, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), fleetVariable+"="+string(config))
	return cmd, nil
}

// launch starts a member.
func (f *fleet) launch(coordinated bool) (*fleetProcess, error) {
	f.launched++
	c := fleetChild{Stores: f.stores, Name: "p" + strconv.Itoa(f.launched), Seed: f.seed + uint64(f.launched), Coordinated: coordinated, Options: f.options.multi, Pace: f.options.pace}
	cmd, err := fleetCommand(c)
	if err != nil {
		return nil, err
	}
	p := &fleetProcess{
		fleet: f, name: c.Name, cmd: cmd, quiet: make(chan struct{}), ended: make(chan struct{}),
		open: map[int]fleetLine{}, began: map[int]int64{}, watches: map[string]int{},
		picture: map[string]string{}, synced: map[string]bool{}, since: f.now(),
	}
	for _, h := range f.histories {
		p.watches[h.key] = h.begin()
	}
	cmd.Stderr = &p.notes
	if p.input, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go p.listen(output)
	return p, nil
}

// listen takes in what a member tells until it is gone.
func (p *fleetProcess) listen(output io.Reader) {
	defer close(p.ended)
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		var l fleetLine
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			continue // cut off by its death; what it would have told had not happened
		}
		p.hear(l)
	}
	p.err = p.cmd.Wait()
	p.bury()
}

func (p *fleetProcess) hear(l fleetLine) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch l.What {
	case fleetBegins:
		p.began[l.ID] = l.At
		p.open[l.ID] = fleetLine{Kind: l.Kind, Key: l.Key, ID: l.ID}
	case fleetDecides:
		p.open[l.ID] = l
	case fleetEnds:
		p.fleet.happened(p, l, p.began[l.ID])
		delete(p.open, l.ID)
		delete(p.began, l.ID)
	case fleetTold:
		p.told(l)
	case fleetSynced:
		p.synced[l.Key] = true
	case fleetQuiet:
		close(p.quiet)
	}
}

func (p *fleetProcess) told(l fleetLine) {
	p.fleet.told.Add(1)
	if isFleetCounter(l.Key) {
		before, _ := strconv.Atoi(p.picture[l.Key])
		if n, err := strconv.Atoi(l.Saw); err != nil || n <= before {
			p.fleet.fail("%s was told that counter %q is %q after %q", p.name, l.Key, l.Saw, p.picture[l.Key])
		}
	} else {
		p.fleet.histories[l.Key].saw(p.watches[l.Key], l.Saw, p.since, p.fleet.at(l.At))
	}
	if l.Saw == "" {
		delete(p.picture, l.Key)
	} else {
		p.picture[l.Key] = l.Saw
	}
}

// bury takes what was under way when a member died for what may have happened,
// as its last decision has it.
func (p *fleetProcess) bury() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, l := range p.open {
		l.Fate, l.Err = maybe, "the process was killed"
		if !isFleetCounter(l.Key) && l.Kind == opWrite && l.Wrote == "" {
			continue // nothing was decided yet
		}
		if l.Kind == opGet || l.Kind == opDecline || l.Kind == opRemove && l.Saw == "" {
			continue
		}
		p.fleet.happened(p, l, p.began[id])
	}
}

// sees reports whether both watches of a member show the store as it is.
func (p *fleetProcess) sees(store map[string]string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.synced[fleetCounterPrefix] || !p.synced[fleetRegisterPrefix] || len(p.picture) != len(store) {
		return false
	}
	for key, value := range store {
		if p.picture[key] != value {
			return false
		}
	}
	return true
}

func (p *fleetProcess) say(word string) error {
	_, err := io.WriteString(p.input, word+"\n")
	return err
}

func (p *fleetProcess) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// stop ends a member in good order.
func (p *fleetProcess) stop() error {
	if err := p.say("quiet"); err != nil {
		return err
	}
	if err := p.say("stop"); err != nil {
		return err
	}
	<-p.ended
	if p.err != nil {
		return fmt.Errorf("member %s: %w: %s", p.name, p.err, p.notes.Bytes())
	}
	return nil
}

// run runs a command of the migration in a process of its own. If that is to
// die on the way and does, there is no result and no error.
func (f *fleet) run(command string, die fleetDeath) (*migrate.Result, error) {
	cmd, err := fleetCommand(fleetChild{Stores: f.stores, Command: command, Die: die})
	if err != nil {
		return nil, err
	}
	var notes bytes.Buffer
	cmd.Stderr = &notes
	output, err := cmd.Output()
	if (die != fleetDeath{}) {
		if state := cmd.ProcessState; err != nil && state != nil && !state.Exited() {
			return nil, nil //nolint:nilnil // as documented
		}
		return nil, fmt.Errorf("%s did not come to %+v: %w: %s", command, die, err, notes.Bytes())
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, notes.Bytes())
	}
	var l fleetLine
	err = json.Unmarshal(output, &l)
	return l.Result, err
}
