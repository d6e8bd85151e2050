package codec

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/proxy"
	"go.temporal.io/sdk/converter"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// The metadata of an encrypted payload, as in Temporal's samples
// (https://github.com/temporalio/samples-go/tree/main/encryption). The payload's data are a nonce
// of 12 bytes, followed by the original payload, encrypted and authenticated together with the
// key's ID.
const (
	encrypted     = "binary/encrypted"
	metadataKeyID = "encryption-key-id"
)

// Codec encrypts and decrypts payloads: it is a converter.PayloadCodec.
type Codec struct{ keys *Keys }

var _ converter.PayloadCodec = Codec{}

// New returns a codec. Without keys it encrypts nothing, refuses to send payloads that are marked
// as encrypted, and its error for an encrypted payload that it receives says that keys are needed.
func New(keys *Keys) Codec { return Codec{keys: keys} }

// Encode encrypts payloads, including those that are marked as encrypted: a worker on a measured
// machine could mark a copied payload so, and would get it back decrypted.
func (c Codec) Encode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	if c.keys == nil {
		// Nobody could read it: a workflow that received it could not go on.
		if slices.ContainsFunc(payloads, isEncrypted) {
			return nil, refused(errors.New("a payload that is sent says that it is encrypted, and there is no key"))
		}
		return payloads, nil
	}
	id, key := c.keys.encrypting()
	out := make([]*commonpb.Payload, len(payloads))
	for i, payload := range payloads {
		plain, err := proto.Marshal(payload)
		if err != nil {
			return nil, refused(fmt.Errorf("encrypt a payload: %w", err))
		}
		nonce := make([]byte, key.NonceSize(), key.NonceSize()+len(plain)+key.Overhead())
		_, _ = rand.Read(nonce) // it never fails
		out[i] = &commonpb.Payload{
			Metadata: map[string][]byte{converter.MetadataEncoding: []byte(encrypted), metadataKeyID: []byte(id)},
			Data:     key.Seal(nonce, nonce, plain, []byte(id)),
		}
	}
	return out, nil
}

// Decode decrypts payloads. It leaves unencrypted ones alone.
func (c Codec) Decode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	out := make([]*commonpb.Payload, len(payloads))
	for i, payload := range payloads {
		out[i] = payload
		if !isEncrypted(payload) {
			continue
		}
		var err error
		if out[i], err = c.decrypt(payload); err != nil {
			return nil, refused(fmt.Errorf("decrypt a payload of Temporal's: %w", err))
		}
	}
	return out, nil
}

func isEncrypted(payload *commonpb.Payload) bool {
	return string(payload.GetMetadata()[converter.MetadataEncoding]) == encrypted
}

func (c Codec) decrypt(payload *commonpb.Payload) (*commonpb.Payload, error) {
	id := payload.GetMetadata()[metadataKeyID]
	if c.keys == nil {
		return nil, fmt.Errorf("it is encrypted with key %q: name the file that has it in HELIOTROPE_CODEC_KEYS", id)
	}
	key, err := c.keys.decrypting(string(id))
	if err != nil {
		return nil, err
	}
	if len(payload.GetData()) < key.NonceSize() {
		return nil, errors.New("it is cut off")
	}
	nonce, sealed := payload.GetData()[:key.NonceSize()], payload.GetData()[key.NonceSize():]
	plain, err := key.Open(nil, nonce, sealed, id)
	if err != nil {
		return nil, fmt.Errorf("it was changed, or key %q is another one in that file than it was encrypted with", id)
	}
	decrypted := new(commonpb.Payload)
	if err := proto.Unmarshal(plain, decrypted); err != nil {
		return nil, err
	}
	return decrypted, nil
}

// refused gives an error a code with which the call is not retried automatically, because another
// call does not bring the key. It is not the code of a call that the server refused.
func refused(err error) error { return status.Error(codes.FailedPrecondition, err.Error()) }

// DialOptions returns options for a client's connection (client.ConnectionOptions.DialOptions)
// that encrypt outgoing payloads and decrypt incoming ones.
//
// The SDK's data converter is not used for this, because a workflow that got a payload without
// having its key would fail, and because the converter never converts what a workflow passes on
// from another one (a failure, a memo).
func (c Codec) DialOptions() ([]grpc.DialOption, error) {
	if c.keys == nil {
		visit := func(do func([]*commonpb.Payload) ([]*commonpb.Payload, error)) *proxy.VisitPayloadsOptions {
			return &proxy.VisitPayloadsOptions{SkipSearchAttributes: true,
				Visitor: func(_ *proxy.VisitPayloadsContext, payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
					return do(payloads)
				}}
		}
		look, err := proxy.NewPayloadVisitorInterceptor(proxy.PayloadVisitorInterceptorOptions{Inbound: visit(c.Decode), Outbound: visit(c.Encode)})
		return []grpc.DialOption{grpc.WithChainUnaryInterceptor(look)}, err
	}
	failures, failuresErr := converter.NewFailureGRPCClientInterceptor(converter.NewFailureGRPCClientInterceptorOptions{EncodeCommonAttributes: true})
	payloads, payloadsErr := converter.NewPayloadCodecGRPCClientInterceptor(converter.PayloadCodecGRPCClientInterceptorOptions{Codecs: []converter.PayloadCodec{c}})
	return []grpc.DialOption{grpc.WithChainUnaryInterceptor(ofACopy, failures, payloads)}, errors.Join(failuresErr, payloadsErr)
}

// ofACopy makes the following interceptors change a copy of the request: the SDK keeps parts of
// its own request, and sends it again if it did not get through. It is a
// grpc.UnaryClientInterceptor.
func ofACopy(ctx context.Context, method string, request, reply any, connection *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	if message, is := request.(proto.Message); is {
		request = proto.Clone(message)
	}
	return invoke(ctx, method, request, reply, connection, options...)
}
