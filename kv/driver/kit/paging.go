package kit

// PageSize returns how many entries of a listing make about so many bytes, if
// they are like the last n, which had size: at least one.
func PageSize(bytes, n, size int) int {
	return max(1, int(int64(bytes)*int64(max(n, 1))/int64(max(size, 1))))
}
