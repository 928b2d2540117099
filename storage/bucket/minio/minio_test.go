package minio_test

import (
	"testing"

	"tablekeeper/storage/bucket/buckettest"
	"tablekeeper/storage/bucket/minio"
)

func TestMinIO(t *testing.T) {
	t.Parallel()
	s := buckettest.StartMinIO(t)
	buckettest.RunStore(t, s, "s3", minio.Open)
	t.Run("Thanos", func(t *testing.T) {
		if buckettest.Race {
			t.Skip("200 MiB: in the pass without the race detector")
		}
		b, err := minio.Open(t.Context(), s.URL(t, "s3", s.NewBucket(t)), s.Options())
		if err != nil {
			t.Fatal(err)
		}
		buckettest.RunThanos(t, b)
	})
}

func TestVersityGW(t *testing.T) {
	t.Parallel()
	buckettest.RunStore(t, buckettest.StartVersityGW(t), "s3", minio.Open)
}

func TestWire(t *testing.T) {
	t.Parallel()
	buckettest.RunWire(t, buckettest.StartMinIO(t), "s3", minio.Open)
}

func TestWiring(t *testing.T) {
	buckettest.RunWiring(t, buckettest.StartMinIO(t), "s3", minio.Open)
}
