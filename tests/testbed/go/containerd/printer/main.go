// Command printer is what the pods of a real node run: it prints numbered alerts, as Falco prints them, and then
// waits, ends or crashes. `printer pause` does nothing: it holds a pod's namespaces.
//
// Each line is written at once, but for those that -stderr writes in two pieces.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	recordBytes = 16384 // containerd's max_container_log_line_size
	// containerd writes a record as soon as it has this much of a line: it reads 4 KiB at a time.
	firstBytes = recordBytes + 4096 + 1
)

var (
	count      = flag.Int("count", 0, "lines to print; 0: until a signal")
	rate       = flag.Float64("rate", 0, "lines per second; 0: as fast as they are taken")
	size       = flag.Int("bytes", 300, "length of a line at least, without its newline")
	then       = flag.String("then", "wait", "what comes after the last line: wait, exit or crash")
	unfinished = flag.Bool("unfinished", false, "print one more alert, without a newline, before the end or at SIGTERM")
	stderr     = flag.Int("stderr", 0, "a line on stderr inside every n-th line, where it is longer than a record of the runtime")
)

func main() {
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM, syscall.SIGINT)
	if len(os.Args) > 1 && os.Args[1] == "pause" {
		<-term
		return
	}
	flag.Parse()
	run := strconv.FormatInt(time.Now().UnixNano(), 36) // so that no two instances print the same line
	number := 0
	for begin := time.Now(); *count == 0 || number < *count; number++ {
		if *rate > 0 {
			due := begin.Add(time.Duration(float64(number) / *rate * float64(time.Second)))
			if wait(term, time.Until(due)) {
				end(run, number)
				return
			}
		} else if wait(term, 0) {
			end(run, number)
			return
		}
		print(run, number)
	}
	if *then == "wait" {
		<-term
	}
	end(run, number)
	if *then == "crash" {
		os.Exit(3)
	}
}

// wait says whether the end was asked for while it waited.
func wait(term <-chan os.Signal, long time.Duration) bool {
	if long <= 0 {
		select {
		case <-term:
			return true
		default:
			return false
		}
	}
	select {
	case <-term:
		return true
	case <-time.After(long):
		return false
	}
}

func end(run string, number int) {
	if *unfinished {
		write(os.Stdout, alert(run, number, *size))
	}
}

func print(run string, number int) {
	line := alert(run, number, *size) + "\n"
	if *stderr == 0 || number%*stderr != 0 || len(line) <= firstBytes {
		write(os.Stdout, line)
		return
	}
	write(os.Stdout, line[:firstBytes])
	time.Sleep(20 * time.Millisecond)
	write(os.Stderr, fmt.Sprintf("%s: %s warning %d\n", time.Now().UTC().Format(time.ANSIC), run, number))
	time.Sleep(20 * time.Millisecond)
	write(os.Stdout, line[firstBytes:])
}

func alert(run string, number, bytes int) string {
	at := time.Now().UTC().Format("2006-01-02T15:04:05.000000000Z")
	head := fmt.Sprintf(`{"output":"%s: Warning run %s line %d `, at[11:29], run, number)
	tail := fmt.Sprintf(`","output_fields":{"n":%d,"run":"%s"},"priority":"Warning","rule":"Numbered line",`+
		`"source":"syscall","tags":[],"time":"%s"}`, number, run, at)
	return head + strings.Repeat("x", max(0, bytes-len(head)-len(tail))) + tail
}

func write(to *os.File, text string) {
	if _, err := to.WriteString(text); err != nil {
		os.Exit(4)
	}
}
