package awss3_test

import (
	"testing"

	"tablekeeper/storage/bucket/awss3"
	"tablekeeper/storage/bucket/buckettest"
)

func TestMinIO(t *testing.T) {
	buckettest.RunStore(t, buckettest.StartMinIO(t), "aws", awss3.Open)
}

func TestVersityGW(t *testing.T) {
	buckettest.RunStore(t, buckettest.StartVersityGW(t), "aws", awss3.Open)
}
