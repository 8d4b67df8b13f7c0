module github.com/polykv/polykv/bench/workload

go 1.26.0
