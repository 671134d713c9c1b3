// A stranger at a node's square, on go-libp2p: reads what to do as JSON from stdin, does it, and prints what came of it as JSON.
//
// In and out are those of ../js/stranger.js. Nothing of the mesh's own code is in here.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/record"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	"github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multistream"
	"google.golang.org/protobuf/encoding/protowire"
)

const (
	patience   = 20 * time.Second
	frameBytes = 1 << 20
)

type asked struct {
	Address  string      `json:"address"`
	Kademlia string      `json:"kademlia"`
	Find     string      `json:"find"`
	Topics   []string    `json:"topics"`
	Ask      [][2]string `json:"ask"`
	Meet     string      `json:"meet"`
	Refused  []string    `json:"refused"`
}

type identified struct {
	ProtocolVersion string   `json:"protocol_version"`
	AgentVersion    string   `json:"agent_version"`
	Protocols       []string `json:"protocols"`
	Addresses       []string `json:"addresses"`
}

type message struct {
	From string `json:"from"`
	Data string `json:"data"`
}

type told struct {
	Peer      string               `json:"peer"`
	Transport string               `json:"transport"`
	Identify  identified           `json:"identify"`
	PingMs    float64              `json:"ping_ms"`
	Answers   []string             `json:"answers"`
	Found     []string             `json:"found"`
	Met       map[string][]string  `json:"met"`
	Heard     map[string][]message `json:"heard"`
	Refused   map[string]string    `json:"refused"`
}

func main() {
	var wanted asked
	if err := json.NewDecoder(os.Stdin).Decode(&wanted); err != nil {
		fail(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	defer cancel()
	out, err := visit(ctx, wanted)
	if err != nil {
		fail(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(out); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// visit does all that is wanted at one square.
func visit(ctx context.Context, wanted asked) (*told, error) {
	h, err := libp2p.New(libp2p.NoListenAddrs)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	info, err := peer.AddrInfoFromString(wanted.Address)
	if err != nil {
		return nil, err
	}
	routing, err := dht.New(h, dht.Mode(dht.ModeClient), dht.ProtocolPrefix(prefix(wanted.Kademlia)), dht.DisableAutoRefresh())
	if err != nil {
		return nil, err
	}
	defer routing.Close()
	subscriptions, err := subscribe(ctx, h, wanted.Topics)
	if err != nil {
		return nil, err
	}
	out := &told{Refused: map[string]string{}, Heard: map[string][]message{}}
	if out.Identify, err = connect(ctx, h, *info); err != nil {
		return nil, err
	}
	out.Peer = info.ID.String()
	out.Transport = h.Network().ConnsToPeer(info.ID)[0].RemoteMultiaddr().String()
	pinging, enough := context.WithCancel(ctx)
	pong := <-ping.Ping(pinging, h, info.ID)
	enough()
	if pong.Error != nil {
		return nil, pong.Error
	}
	out.PingMs = float64(pong.RTT.Microseconds()) / 1000
	for _, question := range wanted.Ask {
		answer, err := ask(ctx, h, info.ID, question[0], question[1])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", question[0], err)
		}
		out.Answers = append(out.Answers, answer)
	}
	if out.Met, err = meet(ctx, h, info.ID, wanted.Meet); err != nil {
		return nil, fmt.Errorf("rendezvous: %w", err)
	}
	time.Sleep(time.Second) // who asked much waits until tokens have come back
	for _, name := range wanted.Refused {
		if why := refusal(ctx, h, info.ID, name); why != "" {
			out.Refused[name] = why
		}
	}
	if out.Found, err = find(ctx, routing, wanted.Find); err != nil {
		return nil, fmt.Errorf("kademlia: %w", err)
	}
	for topic, subscription := range subscriptions {
		news, err := subscription.Next(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", topic, err)
		}
		out.Heard[topic] = []message{{From: news.GetFrom().String(), Data: hex.EncodeToString(news.Data)}}
	}
	return out, nil
}

// prefix is what stands before "/kad/1.0.0".
func prefix(kademlia string) protocol.ID {
	return protocol.ID(strings.TrimSuffix(kademlia, "/kad/1.0.0"))
}

func subscribe(ctx context.Context, h host.Host, topics []string) (map[string]*pubsub.Subscription, error) {
	gossip, err := pubsub.NewGossipSub(ctx, h)
	if err != nil {
		return nil, err
	}
	found := map[string]*pubsub.Subscription{}
	for _, name := range topics {
		topic, err := gossip.Join(name)
		if err != nil {
			return nil, err
		}
		if found[name], err = topic.Subscribe(); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// connect dials, and waits until the other side has said who it is.
func connect(ctx context.Context, h host.Host, to peer.AddrInfo) (identified, error) {
	identifications, err := h.EventBus().Subscribe(new(event.EvtPeerIdentificationCompleted))
	if err != nil {
		return identified{}, err
	}
	defer identifications.Close()
	if err := h.Connect(ctx, to); err != nil {
		return identified{}, err
	}
	select {
	case one := <-identifications.Out():
		said := one.(event.EvtPeerIdentificationCompleted)
		found := identified{ProtocolVersion: said.ProtocolVersion, AgentVersion: said.AgentVersion}
		for _, name := range said.Protocols {
			found.Protocols = append(found.Protocols, string(name))
		}
		for _, address := range said.ListenAddrs {
			found.Addresses = append(found.Addresses, address.String())
		}
		return found, nil
	case <-ctx.Done():
		return identified{}, ctx.Err()
	}
}

// ask sends one request, and gives the answer, both in hex and without their lengths.
func ask(ctx context.Context, h host.Host, to peer.ID, name, request string) (string, error) {
	payload, err := hex.DecodeString(request)
	if err != nil {
		return "", err
	}
	stream, err := h.NewStream(ctx, to, protocol.ID(name))
	if err != nil {
		return "", err
	}
	defer stream.Reset()
	if deadline, there := ctx.Deadline(); there {
		if err := stream.SetDeadline(deadline); err != nil {
			return "", err
		}
	}
	if _, err := stream.Write(append(binary.AppendUvarint(nil, uint64(len(payload))), payload...)); err != nil {
		return "", err
	}
	if err := stream.CloseWrite(); err != nil {
		return "", err
	}
	reader := bufio.NewReader(stream)
	length, err := binary.ReadUvarint(reader)
	if err != nil {
		return "", err
	}
	if length > frameBytes {
		return "", fmt.Errorf("an answer of %d bytes", length)
	}
	answer := make([]byte, length)
	if _, err := io.ReadFull(reader, answer); err != nil {
		return "", err
	}
	if rest, err := io.ReadAll(reader); err != nil || len(rest) > 0 {
		return "", fmt.Errorf("%d bytes behind the answer, %w", len(rest), err)
	}
	return hex.EncodeToString(answer), nil
}

// refusal is how a stream of this protocol is refused; empty if it is not.
func refusal(ctx context.Context, h host.Host, to peer.ID, name string) string {
	stream, err := h.NewStream(network.WithNoDial(ctx, "it is connected"), to, protocol.ID(name))
	if err == nil {
		stream.Reset()
		return ""
	}
	var unsupported multistream.ErrNotSupported[protocol.ID]
	if errors.As(err, &unsupported) {
		return "not supported"
	}
	return err.Error()
}

// find asks Kademlia for a peer.
func find(ctx context.Context, routing *dht.IpfsDHT, wanted string) ([]string, error) {
	id, err := peer.Decode(wanted)
	if err != nil {
		return nil, err
	}
	for routing.RoutingTable().Size() == 0 {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	found, err := routing.FindPeer(ctx, id)
	if err != nil {
		return nil, err
	}
	return addresses(found.Addrs), nil
}

// meet asks a rendezvous point with this request, and opens the records that come.
func meet(ctx context.Context, h host.Host, to peer.ID, request string) (map[string][]string, error) {
	answer, err := ask(ctx, h, to, "/rendezvous/1.0.0", request)
	if err != nil {
		return nil, err
	}
	message, err := hex.DecodeString(answer)
	if err != nil {
		return nil, err
	}
	met := map[string][]string{}
	for _, discovered := range parts(message, 6) {
		for _, registration := range parts(discovered, 1) {
			for _, sealed := range parts(registration, 2) {
				_, opened, err := record.ConsumeEnvelope(sealed, peer.PeerRecordEnvelopeDomain)
				if err != nil {
					return nil, err
				}
				said := opened.(*peer.PeerRecord)
				met[said.PeerID.String()] = addresses(said.Addrs)
			}
		}
	}
	return met, nil
}

// parts are the fields of a protobuf message that have this number and hold bytes.
func parts(message []byte, wanted protowire.Number) [][]byte {
	var found [][]byte
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return found
		}
		message = message[n:]
		if number == wanted && kind == protowire.BytesType {
			if part, n := protowire.ConsumeBytes(message); n >= 0 {
				found = append(found, part)
			}
		}
		if n = protowire.ConsumeFieldValue(number, kind, message); n < 0 {
			return found
		}
		message = message[n:]
	}
	return found
}

func addresses(all []multiaddr.Multiaddr) []string {
	var found []string
	for _, one := range all {
		found = append(found, one.String())
	}
	return found
}
