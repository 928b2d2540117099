package bucket

import "errors"

// What a caller decides on. A missing object is fs.ErrNotExist.
var (
	// ErrExists: Put with IfAbsent found the key taken.
	ErrExists = errors.New("object exists already")

	// ErrPrecondition: the object is not the version that was named.
	ErrPrecondition = errors.New("object is another version than expected")

	// ErrUnreachable: no answer, or a temporary refusal. The same call may succeed later; retry it, or try another time.
	ErrUnreachable = errors.New("bucket cannot be reached now")

	// ErrDenied: the store answered and refused us: wrong credentials, missing permission, read-only file system.
	ErrDenied = errors.New("access to the bucket denied")

	// ErrNoBucket: the bucket itself is missing. Nothing is known about its objects.
	ErrNoBucket = errors.New("no such bucket")

	// ErrFull: the store has no room left.
	ErrFull = errors.New("no room left in the bucket")

	// ErrKey: the key, prefix or tag is not one that every bucket can keep.
	ErrKey = errors.New("invalid name")

	// ErrNotStored: the store acknowledged an object and does not have it as it was sent.
	ErrNotStored = errors.New("the store acknowledged the object but does not hold it as sent")

	// ErrBody: a body had other bytes than the store says the object has.
	ErrBody = errors.New("body differs from the object it was announced as")
)
