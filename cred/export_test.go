package cred

import "io/fs"

// Judge is judge for a user with these ids.
func Judge(info fs.FileInfo, uid int, groups ...int) error { return judge(info, user{uid, groups}) }
