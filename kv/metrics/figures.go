package metrics

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Figures returns a collector of what a component counts by itself, such as a
// gossip node: figures is called once per scrape, concurrently, and calls yield
// for each figure. counter tells a count since the start from a value that goes
// up and down; labels are names and values in turns.
//
// constant are labels of all figures, by which components of one kind are told
// apart. The names of the figures, and of one name the help and the names of
// the labels, must be the same in every call.
func Figures(figures func(yield func(name, help string, counter bool, value float64, labels ...string)), constant prometheus.Labels) prometheus.Collector {
	return &collector{figures: figures, constant: constant, descs: map[string]*prometheus.Desc{}}
}

type collector struct {
	figures  func(func(name, help string, counter bool, value float64, labels ...string))
	constant prometheus.Labels

	mu    sync.Mutex
	descs map[string]*prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	c.figures(func(name, help string, counter bool, value float64, labels ...string) {
		kind := prometheus.GaugeValue
		if counter {
			kind = prometheus.CounterValue
		}
		names := make([]string, 0, len(labels)/2)
		values := make([]string, 0, len(labels)/2)
		for i := 0; i+1 < len(labels); i += 2 {
			names, values = append(names, labels[i]), append(values, labels[i+1])
		}
		metric, err := prometheus.NewConstMetric(c.desc(name, help, names), kind, value, values...)
		if err != nil {
			metric = prometheus.NewInvalidMetric(c.desc(name, help, names), err)
		}
		ch <- metric
	})
}

func (c *collector) desc(name, help string, labels []string) *prometheus.Desc {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.descs[name]
	if d == nil {
		d = prometheus.NewDesc(name, help, labels, c.constant)
		c.descs[name] = d
	}
	return d
}
