package driver

import (
	"context"

	"google.golang.org/grpc"
)

// ServerOptions returns the gRPC options of a server for RegisterServer: a control call that panics returns Internal, and the
// process continues.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(recoverUnary), grpc.ChainStreamInterceptor(recoverStream)}
}

func recoverUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (res any, err error) {
	defer recovered(&err)
	return handler(ctx, req)
}

func recoverStream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	defer recovered(&err)
	return handler(srv, stream)
}

// recovered, deferred, turns a panic into the error of a control call.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = ToStatus(Errorf(Internal, "driver panicked: %s", panicText(p)))
	}
}
