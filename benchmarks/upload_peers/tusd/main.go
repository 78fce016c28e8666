// tusd, the reference server of tus, with its directory store: tusd ADDRESS FOLDER.
package main

import (
	"log"
	"net/http"
	"os"

	"github.com/tus/tusd/v2/pkg/filelocker"
	"github.com/tus/tusd/v2/pkg/filestore"
	"github.com/tus/tusd/v2/pkg/handler"
)

func main() {
	address, folder := os.Args[1], os.Args[2]
	composer := handler.NewStoreComposer()
	filestore.New(folder).UseIn(composer)
	filelocker.New(folder).UseIn(composer)
	tus, err := handler.NewHandler(handler.Config{BasePath: "/api/uploads", StoreComposer: composer})
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/api/uploads", http.StripPrefix("/api/uploads", tus))
	http.Handle("/api/uploads/", http.StripPrefix("/api/uploads/", tus))
	log.Fatal(http.ListenAndServe(address, nil))
}
