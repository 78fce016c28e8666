// A centrifuge node that sends messages to every connection of one channel at a fixed rate.
package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/centrifugal/centrifuge"
)

const channel = "files"

func main() {
	rate, err := strconv.ParseFloat(os.Args[1], 64)
	must(err)
	size, err := strconv.Atoi(os.Args[2])
	must(err)
	node, err := centrifuge.New(centrifuge.Config{})
	must(err)
	node.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		return centrifuge.ConnectReply{Credentials: &centrifuge.Credentials{UserID: "benchmark"}}, nil
	})
	node.OnConnect(func(client *centrifuge.Client) {
		client.OnSubscribe(func(_ centrifuge.SubscribeEvent, answer centrifuge.SubscribeCallback) {
			answer(centrifuge.SubscribeReply{}, nil)
		})
	})
	must(node.Run())
	http.Handle("/connection/websocket", centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{}))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	go send(node, rate, size)
	fmt.Printf("ready %d\n", listener.Addr().(*net.TCPAddr).Port)
	must(http.Serve(listener, nil))
}

func send(node *centrifuge.Node, rate float64, size int) {
	padding := strings.Repeat("x", size)
	ticks := time.NewTicker(time.Duration(float64(time.Second) / rate))
	for number := 0; ; number++ {
		<-ticks.C
		message := fmt.Sprintf(`{"delivery":%d,"padding":%q}`, number, padding)
		_, err := node.Publish(channel, []byte(message))
		must(err)
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
